"""Which identity providers a portal speaks to."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from dashboards.portal import oidc
from dashboards.portal.settings import PortalSettings
from kaimon.base.problems import Problem
from kaimon.base.tls import ensure_development_tls
from kaimon.local.provider import Provider, _Handler
from tenancy.sessions import Attempt
from tests.dashboards.portal.lying import URL


def test_a_provider_is_spoken_to_only_if_an_authority_that_is_trusted_signed_for_it(tmp_path: Path) -> None:
    ours, other = (ensure_development_tls(tmp_path / name) for name in ("ours", "other"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(ours.certificate, ours.key)
    handler: Any = type("Handler", (_Handler,), {})
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    http.socket = context.wrap_socket(http.socket, server_side=True)
    issuer = f"https://127.0.0.1:{http.server_port}"
    handler.provider = Provider(issuer, "kaimon", f"{URL}/callback")
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    try:
        for ca in (None, other.ca, ours.ca):
            portal = oidc.Provider(PortalSettings(home=tmp_path, oidc_issuer=issuer, oidc_ca=ca))
            if ca == ours.ca:
                assert portal.redirect(Attempt("state", "nonce", "v" * 48)).startswith(f"{issuer}/authorize?")
                continue
            with pytest.raises(Problem) as refusal:
                portal.redirect(Attempt("state", "nonce", "v" * 48))
            assert (refusal.value.status, refusal.value.code) == (503, "provider_away")
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("name", "value"),
    [("KAIMON_PORTAL_URL", "https://portal.acme.example"), ("KAIMON_PORTAL_HOST", "0.0.0.0")],
)
def test_the_provider_for_development_refuses_a_portal_that_others_reach(tmp_path: Path, name: str, value: str) -> None:
    kaimon = Path(sys.executable).parent / "kaimon"
    environment = {**os.environ, "KAIMON_HOME": str(tmp_path), name: value}
    provider = [sys.executable, "-m", "kaimon.local.provider", "--port", "1"]
    done = subprocess.run(provider, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert "on this machine only" in done.stderr
    environment["KAIMON_OIDC_ISSUER"] = "http://127.0.0.1:8445"
    done = subprocess.run(
        [str(kaimon), "portal", "serve"], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode != 0
    assert "development provider" in done.stderr
