"""A portal for real browsers: its process and ingest's, an identity provider that is not ours, headless Chromium."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import secrets
import shutil
import ssl
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kaimon.base.tls import ensure_development_tls
from kaimon.local.processes import Child, Children, wait_for
from kaimon.local.stack import BINARIES, Local, free_port, listens
from lake.segments import encode_segment, segment_key
from lake.settings import LakeSettings
from lake.stores import open_store
from tenancy.database import Database, open_database
from tenancy.hints import mark_staged
from tenancy.settings import TenancySettings
from tenancy.tenants import create_tenant
from tests.pipelines.conftest import Load

ROOT = Path(__file__).resolve().parents[2]
WEB = ROOT / "tests" / "web"
TENANT = "acme"
LEAVING = "leaving"
"""A tenant that goes."""
GOLD = "urn:example:two-factors"
SLOW_MS = 30_000
"""How long a page may take: the machine may be busy."""


def missing() -> str | None:
    """Return why none of this can run here, None if it can."""
    for tool in ("node", "chromium", "openssl", "setsid"):
        if shutil.which(tool) is None:
            return f"needs {tool}"
    if not (WEB / "node_modules" / "oidc-provider").is_dir():
        return "needs tests/web/node_modules (script/bootstrap test)"
    return None


@dataclass(frozen=True)
class Account:
    """Somebody the provider knows; `totp` is the secret of their second factor, None if they have none."""

    email: str
    verified: bool = True
    totp: bytes | None = field(default_factory=lambda: secrets.token_bytes(20))
    amr: tuple[str, ...] = ("pwd", "otp", "mfa")
    acr: str | None = None

    def code(self) -> str:
        """Return what their authenticator shows now (RFC 6238)."""
        assert self.totp is not None
        digest = hmac.digest(self.totp, struct.pack(">Q", int(time.time()) // 30), "sha1")
        (number,) = struct.unpack_from(">I", digest, digest[-1] & 15)
        return f"{(number & 0x7FFFFFFF) % 1_000_000:06}"

    def wrong_code(self) -> str:
        """Return a code that their authenticator shows neither now nor soon after, in all likelihood."""
        return f"{(int(self.code()) + 1) % 1_000_000:06}"

    def settings(self) -> dict[str, Any]:
        """Return what the provider is told."""
        return {
            "sub": hashlib.sha256(self.email.encode()).hexdigest()[:24],
            "verified": self.verified,
            "totp": None if self.totp is None else self.totp.hex(),
            "amr": list(self.amr),
            "acr": self.acr,
        }


ADA = Account("ada@acme.example")
MAX = Account("max@acme.example", amr=("otp",), acr=GOLD)
"""His provider vouches for the second factor by `acr` alone."""
PIA = Account("pia@acme.example", totp=None, amr=("pwd",))
EVE = Account("eve@acme.example", verified=False)
LEA = Account("lea@leaving.example")
PEOPLE = (ADA, MAX, PIA, EVE, LEA)


class Person:
    """One person's browser, and what they do in it."""

    def __init__(self, context: Any, url: str) -> None:
        self.context, self.url = context, url
        context.set_default_timeout(SLOW_MS)
        self.page = context.new_page()

    def begin(self, account: Account) -> None:
        """Go from the portal's first page to the provider, and say who one is there."""
        self.page.goto(self.url)
        self.press(self.page.get_by_role("link", name="Log in"))
        self.name(account)

    def name(self, account: Account) -> None:
        """Say to the provider who one is."""
        self.page.get_by_label("E-mail address").fill(account.email)
        self.press(self.page.get_by_role("button", name="Continue"))

    def prove(self, code: str) -> None:
        """Type the second factor's code at the provider."""
        self.page.get_by_label("Code").fill(code)
        self.press(self.page.get_by_role("button", name="Continue"))

    def say(self, account: Account) -> None:
        """Say to the provider who one is, and prove it by all that the account has."""
        self.name(account)
        if account.totp is not None:
            self.prove(account.code())

    def log_in(self, account: Account) -> None:
        """Log in from the portal's first page."""
        self.page.goto(self.url)
        self.press(self.page.get_by_role("link", name="Log in"))
        self.say(account)

    def press(self, what: Any) -> None:
        """Press a link or a button; return once the page that it leads to is there."""
        with self.page.expect_navigation():
            what.click()

    def open(self, page: str, status: int = 200) -> None:
        """Open a page of the tenant by its address."""
        answer = self.page.goto(f"{self.url}/t/{TENANT}/{page}")
        assert answer.status == status, self.text()

    def follow(self, name: str) -> None:
        """Go to a page by the menu."""
        self.press(self.page.get_by_role("navigation").get_by_role("link", name=name, exact=True))

    def add_a_host(self, label: str) -> tuple[str, str]:
        """Do as the page Hosts says; return the line that it shows, and the token."""
        self.follow("Hosts")
        line = self.page.locator("#install").inner_text()
        self.press(self.page.get_by_role("main").get_by_role("link", name="Tokens"))
        self.page.get_by_label("For").fill(label)
        self.press(self.page.get_by_role("button", name="Make a token"))
        return str(line), str(self.page.locator("#secret").inner_text())

    def row(self, text: str) -> Any:
        """Return the table's row with this text."""
        return self.page.get_by_role("row").filter(has_text=text)

    def heading(self, level: int = 1) -> str:
        return str(self.page.get_by_role("heading", level=level).first.inner_text())

    def text(self) -> str:
        return str(self.page.locator("body").inner_text())

    def session(self) -> str | None:
        """Return the id of the session that this browser holds."""
        kept = [one["value"] for one in self.context.cookies() if one["name"] == "__Host-kaimon"]
        return kept[0] if kept else None


@dataclass
class World:
    """All of it, up."""

    local: Local
    url: str
    issuer: str
    trust: ssl.SSLContext
    db: Database
    children: Children
    browser: Any
    contexts: list[Any] = field(default_factory=list)

    def person(self) -> Person:
        """Return somebody with a browser of their own."""
        self.contexts.append(self.browser.new_context())
        return Person(self.contexts[-1], self.url)

    def leave(self) -> None:
        """Close every browser window."""
        while self.contexts:
            self.contexts.pop().close()

    def kaimon(self, *arguments: str) -> str:
        """Run `kaimon` as the operator does."""
        return self._run("kaimon", *arguments)

    def _run(self, program: str, *arguments: str, **settings: str) -> str:
        done = subprocess.run(
            [str(BINARIES / program), *arguments],
            env={**os.environ, **self.local.environment, **settings},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def night(self) -> None:
        """Run what Dagster runs every night for retention."""
        command = ["dagster", "asset", "materialize", "-m", "pipelines.definitions", "--select", "retention"]
        self._run(*command, KAIMON_REVOCATION_GRACE_S="1")

    def stage(self, tenant: str, path: str) -> date:
        """Stage one event of today, as ingest would; return its UTC day."""
        now, load = datetime.now(UTC), Load()
        load.do(now, path=path)
        load.cut(now)
        data = encode_segment("node-1", 1, tenant, load.parts)
        open_store("staging", LakeSettings(home=self.local.home)).put_new(segment_key(tenant, "node-1", 1), data)
        mark_staged(self.db, [(tenant, "node-1", 1)])
        return now.date()

    def said(self, name: str) -> list[dict[str, Any]]:
        """Return what one of our own processes logged, a line each."""
        lines = (self.local.home / "logs" / f"{name}.log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


def _portal(world: World, settings: dict[str, str]) -> Child:
    environment = world.local.environment | {
        "KAIMON_PORTAL_PORT": world.url.rpartition(":")[2],
        "KAIMON_PORTAL_URL": world.url,
        "KAIMON_INGEST_URL": world.local.ingest_url,
        "KAIMON_OIDC_ISSUER": world.issuer,
        **settings,
    }
    return world.children.start("portal", [BINARIES / "kaimon", "portal", "serve"], environment)


@contextmanager
def running(folder: Path, **settings: str) -> Iterator[World]:
    """Start all of it; the tenant has no member yet. `KAIMON_…` as arguments are the portal's settings."""
    from playwright.sync_api import sync_playwright

    local = Local(folder / "home", free_port())
    trusted = local.prepare()
    url, issuer = f"https://localhost:{free_port()}", f"https://127.0.0.1:{free_port()}"
    tls = ensure_development_tls(local.home)
    secret = secrets.token_urlsafe(32)
    known = folder / "provider.json"
    known.write_text(
        json.dumps(
            {
                "port": int(issuer.rpartition(":")[2]),
                "tls": {"certificate": str(tls.certificate), "key": str(tls.key)},
                "client_id": "kaimon",
                "client_secret": secret,
                "redirect_uri": f"{url}/callback",
                "accounts": {one.email: one.settings() for one in PEOPLE},
            }
        )
    )
    db = open_database(TenancySettings(home=local.home))
    for tenant in (TENANT, LEAVING):
        create_tenant(db, tenant, subscription="active")
    try:
        with Children(local.home / "logs") as children, sync_playwright() as playwright:
            trust = ssl.create_default_context(cafile=str(trusted))
            world = World(local, url, issuer, trust, db, children, None)
            children.start("provider", ["node", WEB / "provider.mjs", known])
            _portal(
                world,
                {
                    "KAIMON_OIDC_CA": str(trusted),
                    "KAIMON_OIDC_CLIENT_SECRET": secret,
                    "KAIMON_OIDC_REQUIRE_MFA": "true",
                    "KAIMON_OIDC_MFA_ACR": json.dumps([GOLD]),
                    **settings,
                },
            )
            local.start_ingest(children)
            for address in (url, issuer):
                port = int(address.rpartition(":")[2])
                wait_for(f"{address} to be served", lambda port=port: listens(port), 60, children)
            world.browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=browser_flags(local.home), env=quiet()
            )
            try:
                yield world
            finally:
                world.leave()
                world.browser.close()
    finally:
        db.close()


def browser_flags(home: Path) -> list[str]:
    """Return how Chromium is started before a portal of this home."""
    # It trusts this one certificate and no other, as one that knows the development authority would.
    leaf = x509.load_pem_x509_certificate(ensure_development_tls(home).certificate.read_bytes())
    spki = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    pin = base64.b64encode(hashlib.sha256(spki).digest()).decode()
    return [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        f"--ignore-certificate-errors-spki-list={pin}",
    ]


def quiet() -> dict[str, str | float | bool]:
    """Return this environment without its proxies."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}


def attempts(what: str, seconds: float = 60) -> Iterator[None]:
    """Let a test try again until it breaks off; fail after a while."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(0.2)
    raise AssertionError(f"waited {seconds:.0f} s in vain for {what}")


def looks_like_a_token(text: str) -> bool:
    """Say whether a token stands in a text."""
    return re.search(r"kmn_enr_[0-9A-Za-z]{38}", text) is not None
