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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from kaimon.base.tls import ensure_development_tls
from tenancy.api_keys import create_api_key
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
    log: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    clients: list[httpx.Client] = field(default_factory=list)

    def browser(self) -> Browser:
        self.clients.append(httpx.Client(verify=self.trust, trust_env=False, timeout=60))
        return Browser(self.clients[-1], self.url)

    def wait(self, ports: tuple[int, ...]) -> None:
        """Wait until all of it listens and the portal answers."""
        deadline = time.monotonic() + 120
        for port in ports:
            while True:
                self._require_life(deadline)
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.1)
        while True:
            try:
                answer = self.browser().get("/")
                break
            except httpx.TransportError:
                self._require_life(deadline)
                time.sleep(0.1)
        assert answer.status_code == 200

    def _require_life(self, deadline: float) -> None:
        assert all(child.poll() is None for child in self.processes), self.log.read_text()
        assert time.monotonic() < deadline, self.log.read_text()

    def close(self) -> None:
        for child in self.processes:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        for child in self.processes:
            child.wait(60)
        for client in self.clients:
            client.close()
        self.db.close()

    def api(self, tenant: str, *scopes: str) -> httpx.Client:
        """A program with a new key of a tenant."""
        _, key = create_api_key(self.db, tenant, scopes)
        headers = {"Authorization": f"Bearer {key}"}
        base = self.url + "/api/v1"
        self.clients.append(
            httpx.Client(base_url=base, headers=headers, verify=self.trust, trust_env=False, timeout=60)
        )
        return self.clients[-1]

    def member(self, tenant: str, email: str, role: Role) -> Browser:
        invite(self.db, tenant, email, role)
        browser = self.browser()
        assert browser.log_in(email).status_code == 303
        return browser


def start(folder: Path, *, provider: bool = True, **settings: str) -> Running:
    """Start a portal, and a provider beside it; both are up when this returns."""
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
        **settings,
    }
    commands = [[str(BINARIES / "kaimon"), "portal", "serve"]]
    if provider:
        commands.append([sys.executable, "-m", "kaimon.local.provider", "--port", str(ports[1])])
    db = open_database(TenancySettings(home=home))
    for tenant in ("acme", "bolt"):
        create_tenant(db, tenant)
    running = Running(home, url, issuer, trust, db, folder / "log")
    with running.log.open("ab") as log:
        running.processes += [
            subprocess.Popen(command, env=environment, stdout=log, stderr=log) for command in commands
        ]
    try:
        running.wait(ports[: len(commands)])
    except BaseException:
        running.close()
        raise
    return running


@pytest.fixture(scope="session")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = start(tmp_path_factory.mktemp("portal"))
    try:
        yield running
    finally:
        running.close()


@pytest.fixture(scope="session")
def portal_maker() -> Callable[..., Running]:
    """What starts a portal, for whoever closes it."""
    return start


@pytest.fixture
def start_portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Running]]:
    """Start a portal of one's own; `KAIMON_…` as arguments are its settings."""
    started: list[Running] = []

    def starting(*, provider: bool = False, **settings: str) -> Running:
        started.append(start(tmp_path_factory.mktemp("own"), provider=provider, **settings))
        return started[-1]

    yield starting
    for running in started:
        running.close()


@pytest.fixture(scope="session")
def admin(portal: Running) -> Browser:
    return portal.member("acme", "ada@acme.example", "admin")


@pytest.fixture(scope="session")
def member(portal: Running) -> Browser:
    return portal.member("acme", "max@acme.example", "member")


@pytest.fixture(scope="session")
def stranger(portal: Running) -> Browser:
    return portal.member("bolt", "sue@bolt.example", "admin")
