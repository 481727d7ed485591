"""A real mail server with STARTTLS and a real HTTPS endpoint, both on this machine, that keep what they are sent."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from kaimon.base.tls import ensure_development_tls

SECRET = "whsec_" + "S2FpbW9uJ3MgdGVzdHMgc2lnbiB3aXRoIHRoaXM="


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return ensure_development_tls(tmp_path_factory.mktemp("alert-tls"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Mailbox:
    """Takes mail, only over TLS and only from who logs in.

    `refuse` answers 451 instead, `unknown` are addresses that it does not know, `says` is what it answers to `rcpt` or
    `data`, `hold` never answers.
    """

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.recipients: list[list[str]] = []
        self.refuse = False
        self.unknown: set[str] = set()
        self.says: dict[str, str] = {}
        self.hold = False
        self.held = threading.Event()
        self.port = free_port()

    async def handle_RCPT(  # noqa: N802 - as aiosmtpd calls it
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        if address in self.unknown:
            return f"550 5.1.1 no such mailbox {address}"
        if "rcpt" in self.says:
            return self.says["rcpt"]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        assert session.ssl is not None
        if self.hold:
            self.held.set()
            await asyncio.sleep(3600)
        if self.refuse:
            return "451 not now, ops@example.com"
        if "data" in self.says:
            return self.says["data"]
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))  # type: ignore[arg-type]
        self.recipients.append(list(envelope.rcpt_tos))
        return "250 taken"


def authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
    return AuthResult(success=data == LoginPassword(b"kaimon", b"pass word"))


@pytest.fixture
def mailbox(tls: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    box = Mailbox()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tls.certificate, tls.key)
    controller = Controller(
        box,
        hostname="127.0.0.1",
        port=box.port,
        ready_timeout=60,
        tls_context=context,
        require_starttls=True,
        authenticator=authenticate,
        auth_required=True,
    )
    controller.start()
    settings = {
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(box.port),
        "SMTP_USER": "kaimon",
        "SMTP_PASSWORD": "pass word",
        "SMTP_CA": str(tls.ca),
        "SMTP_FROM": "kaimon <alerts@example.com>",
        "ALERT_MAIL_TO": "ops@example.com, night@example.com",
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"KAIMON_{name}", value)
    try:
        yield box
    finally:
        controller.stop()


class Hook:
    """Takes posts over HTTPS and answers `status`."""

    def __init__(self) -> None:
        self.posts: list[tuple[dict[str, str], bytes]] = []
        self.status = 204


@pytest.fixture
def hook(tls: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    made = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if made.status == 204:
                made.posts.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(made.status)
            if made.status == 302:
                self.send_header("location", "https://127.0.0.1:1/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tls.certificate, tls.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    monkeypatch.setenv("KAIMON_ALERT_WEBHOOK_URL", f"https://127.0.0.1:{server.server_port}/hooks/s3cret")
    monkeypatch.setenv("KAIMON_ALERT_WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("KAIMON_ALERT_WEBHOOK_CA", str(tls.ca))
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def secret() -> str:
    return SECRET
