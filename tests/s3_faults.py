"""What may happen between S3 and its client, on demand: a relay that loses answers, turns away, and cuts short."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LOST = "lost"
"""The server does it, and its answer never comes."""
SLOW = "slow"
"""503 SlowDown, and nothing is done."""
CUT = "cut"
"""The answer ends after half of its body."""
DENIED = "denied"
"""What is not there is refused, as S3 does to those who may list below some folders only."""

_SLOW = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_REFUSED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


@dataclass
class Relay:
    """Passes requests on; `plan` says what goes wrong with those that it names, and how often."""

    server: int
    port: int = 0
    seen: list[str] = field(default_factory=list)
    _plan: list[tuple[str, Callable[[str, str], bool]]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def plan(self, what: str, method: str, part: str, times: int = 1) -> None:
        """Let `what` happen to the next `times` requests of a method whose path holds `part`."""
        with self._lock:
            self._plan += [(what, lambda m, path: m == method and part in path)] * times

    def left(self) -> int:
        return len(self._plan)

    def fate(self, method: str, path: str) -> str | None:
        with self._lock:
            self.seen.append(f"{method} {path}")
            for number, (what, meant) in enumerate(self._plan):
                if meant(method, path):
                    del self._plan[number]
                    return what
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    to: Relay

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._pass_on
        raise AttributeError(name)

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fate = self.to.fate(self.command, self.path)
        if fate == SLOW:
            self._answer(503, [], _SLOW)
            return
        status, headers, data = self._ask(body)
        if fate == LOST:
            self.close_connection = True
        elif fate == DENIED and status == 404:
            self._answer(403, [], _REFUSED)
        else:
            self._answer(status, headers, data, half=fate == CUT)

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection("127.0.0.1", self.to.server, timeout=60)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in {"expect", "connection"}:
                    upstream.putheader(name, value)
            upstream.endheaders(body)
            answer = upstream.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            upstream.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes, *, half: bool = False) -> None:
        self.send_response_only(status)
        # Of what only the head was asked, the size that the server says.
        said = {"Content-Length": str(len(data))} if self.command != "HEAD" else {}
        for name, value in headers:
            if name.lower() not in {"connection", "transfer-encoding", *(key.lower() for key in said)}:
                self.send_header(name, value)
        for name, value in said.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if half else data)
        self.close_connection = half

    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:
        """A client that went away is what this is about."""


@contextmanager
def relaying(server: int) -> Iterator[Relay]:
    """Run a relay to a server on this machine."""
    relay = Relay(server)
    with _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"to": relay})) as listening:
        relay.port = listening.server_address[1]
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield relay
        finally:
            listening.shutdown()
            thread.join(30)
