"""A real portal over TLS and a real identity provider, each a process, and browsers made of httpx."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from kaimon.base.tls import ensure_development_tls
from tenancy.database import Database, open_database
from tenancy.members import Role, invite
from tenancy.settings import TenancySettings
from tenancy.tenants import create_tenant

BINARIES = Path(sys.executable).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Browser:
    """Somebody with a cookie jar; `csrf` is what stands in the newest page's forms."""

    client: httpx.Client
    url: str

    def get(self, path: str) -> httpx.Response:
        return self.client.get(self.url + path)

    def post(self, path: str, csrf: str | None = None, origin: str | None = None, **form: str) -> httpx.Response:
        data = {"csrf": self.csrf() if csrf is None else csrf, **form}
        return self.client.post(self.url + path, data=data, headers={"Origin": origin or self.url})

    def csrf(self) -> str:
        found = re.search(
            r'name="csrf" value="([0-9a-f]+)"', self.client.get(self.url + "/", follow_redirects=True).text
        )
        return found[1] if found else ""

    def log_in(self, email: str, **also: str) -> httpx.Response:
        form = self.client.get(self.get("/login").headers["location"])
        hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form.text))
        back = self.client.post(str(form.url.join("/authorize")), data={**hidden, "email": email, **also})
        assert back.status_code == 303, back.text
        return self.client.get(back.headers["location"])


@dataclass
class Running:
    home: Path
    url: str
    issuer: str
    trust: ssl.SSLContext
    db: Database
    clients: list[httpx.Client] = field(default_factory=list)

    def browser(self) -> Browser:
        self.clients.append(httpx.Client(verify=self.trust, trust_env=False, timeout=60))
        return Browser(self.clients[-1], self.url)

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.db.close()

    def member(self, tenant: str, email: str, role: Role) -> Browser:
        invite(self.db, tenant, email, role)
        browser = self.browser()
        assert browser.log_in(email).status_code == 303
        return browser


@pytest.fixture(scope="session")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("portal")
    home, ports = folder / "home", (free_port(), free_port())
    home.mkdir()
    url, issuer = f"https://localhost:{ports[0]}", f"http://127.0.0.1:{ports[1]}"
    trust = ssl.create_default_context(cafile=str(ensure_development_tls(home).ca))
    environment = {
        **os.environ,
        "KAIMON_HOME": str(home),
        "KAIMON_PORTAL_PORT": str(ports[0]),
        "KAIMON_PORTAL_URL": url,
        "KAIMON_OIDC_ISSUER": issuer,
    }
    commands = [
        [str(BINARIES / "kaimon"), "portal", "serve"],
        [sys.executable, "-m", "kaimon.local.provider", "--port", str(ports[1])],
    ]
    db = open_database(TenancySettings(home=home))
    for tenant in ("acme", "bolt"):
        create_tenant(db, tenant)
    running = Running(home, url, issuer, trust, db)
    with (folder / "log").open("ab") as log:
        children = [subprocess.Popen(command, env=environment, stdout=log, stderr=log) for command in commands]
    try:
        for port in ports:
            deadline = time.monotonic() + 120
            while True:
                assert all(child.poll() is None for child in children), (folder / "log").read_text()
                assert time.monotonic() < deadline, (folder / "log").read_text()
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.1)
        deadline = time.monotonic() + 120
        while True:
            try:
                assert running.browser().get("/").status_code == 200
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.1)
        yield running
    finally:
        for child in children:
            child.send_signal(signal.SIGTERM)
        for child in children:
            child.wait(60)
        running.close()
