"""The portal beside the other parts on this machine, with the development provider, and somebody who may log in."""

from __future__ import annotations

import os
import ssl
import sys
import urllib.error
import urllib.request
from http.cookiejar import CookieJar
from typing import Final
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

from kaimon.local.processes import Children, wait_for
from kaimon.local.stack import BINARIES, Local, listens
from tenancy.database import Database
from tenancy.members import invite, list_invitations, list_members

ADMIN: Final = "admin@kaimon.example"
"""Who may log in where nobody else was invited: the development provider believes whoever says to be them."""


def ensure_admin(database: Database, tenant: str) -> None:
    """Invite `ADMIN` if nobody is a member of the tenant or invited to it."""
    if not list_members(database, tenant) and not list_invitations(database, tenant):
        invite(database, tenant, ADMIN, "admin")


def start_portal(local: Local, children: Children, port: int, provider_port: int) -> str:
    """Start the portal on loopback and wait until it answers; return its address.

    People log in at the provider that `KAIMON_OIDC_ISSUER` names; without one the development provider is started,
    which this portal may use since nobody elsewhere can reach it.
    """
    url = f"https://localhost:{port}"
    environment = local.environment | {
        "KAIMON_PORTAL_HOST": "127.0.0.1",
        "KAIMON_PORTAL_PORT": str(port),
        "KAIMON_PORTAL_URL": url,
        "KAIMON_INGEST_URL": local.ingest_url,
    }
    if "KAIMON_OIDC_ISSUER" not in os.environ:
        environment["KAIMON_OIDC_ISSUER"] = f"http://127.0.0.1:{provider_port}"
        command = [sys.executable, "-m", "kaimon.local.provider", "--port", str(provider_port)]
        children.start("provider", command, environment)
        wait_for("the development provider", lambda: listens(provider_port), 60, children)
    children.start("portal", [BINARIES / "kaimon", "portal", "serve"], environment)
    browser = Browser(local, url)
    wait_for("the portal to answer", browser.answers, 60, children)
    return url


class Browser:
    """Somebody who looks at the portal: cookies, and redirects followed."""

    def __init__(self, local: Local, url: str) -> None:
        """Look at the portal at `url`, which shows the home's development certificate."""
        context = ssl.create_default_context(cafile=str(local.prepare()))
        self._url = url
        # No proxy: it is on this machine.
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=context),
            urllib.request.HTTPCookieProcessor(CookieJar()),
        )

    def get(self, path: str) -> str:
        """Return a page.

        Raises:
            urllib.error.HTTPError: it was refused.
        """
        return self._read(urljoin(self._url, path))[1]

    def answers(self) -> bool:
        """Say whether the portal answers."""
        try:
            return bool(self.get("/"))
        except (urllib.error.URLError, OSError):
            return False

    def log_in(self, email: str) -> None:
        """Log in at the development provider as whom one says to be."""
        form, _ = self._read(urljoin(self._url, "/login"))
        asked = dict(parse_qsl(urlsplit(form).query))
        self._read(urljoin(form, "/authorize"), urlencode(asked | {"email": email}).encode())

    def _read(self, url: str, form: bytes | None = None) -> tuple[str, str]:
        with self._opener.open(url, form, timeout=30) as answer:
            return answer.url, answer.read().decode()
