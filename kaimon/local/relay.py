"""A relay between agent and ingest that can drop one event or keep a copy: how the demo shows that a loss is found.

It ends the agent's TLS with the development certificate, so it can stand only where that key is: on the same host.
"""

from __future__ import annotations

import base64
import hashlib
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

import zstandard

Edit = Callable[[bytes], bytes]
"""Takes a batch's lines and returns those to send on."""


class Relay:
    """Listens on 127.0.0.1:`port` with TLS and passes each request on to `upstream`, batches through `edit`."""

    def __init__(self, upstream: str, tls_folder: Path, edit: Edit) -> None:
        """Serve with `server.pem` and `server.key` of `tls_folder`, and trust its `ca.pem` upstream."""
        trust = ssl.create_default_context(cafile=str(tls_folder / "ca.pem"))
        relay_edit = edit

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {
                    name: value for name, value in self.headers.items() if name not in ("Host", "Content-Length")
                }
                if self.path == "/v1/batches":
                    body, headers["Content-Digest"] = rewritten(body, relay_edit, self.headers["Content-Digest"])
                request = urllib.request.Request(upstream + self.path, data=body, headers=headers, method="POST")  # noqa: S310 - our own ingest
                try:
                    with urllib.request.urlopen(request, context=trust, timeout=60) as answer:  # noqa: S310
                        self.answer(answer.status, answer.headers["Content-Type"], answer.read())
                except urllib.error.HTTPError as refused:
                    self.answer(refused.code, refused.headers["Content-Type"], refused.read())

            def answer(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing: ingest keeps the record."""

        serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        serving.minimum_version = ssl.TLSVersion.TLSv1_2
        serving.load_cert_chain(tls_folder / "server.pem", tls_folder / "server.key")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.socket = serving.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"https://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def rewritten(body: bytes, edit: Edit, digest: str) -> tuple[bytes, str]:
    """Return the body after `edit` and its Content-Digest; both as they came when `edit` changes nothing."""
    lines = zstandard.ZstdDecompressor().decompress(body, max_output_size=1 << 28)
    edited = edit(lines)
    if edited == lines:
        return body, digest
    body = zstandard.ZstdCompressor().compress(edited)
    return body, f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


def drop_one(marker: str) -> Edit:
    """Return an edit that takes out the first write whose path bears `marker`, and nothing after it."""
    lock = threading.Lock()
    dropped: list[bytes] = []

    def edit(lines: bytes) -> bytes:
        with lock:
            kept = lines.splitlines(keepends=True)
            for index, line in enumerate(kept):
                if not dropped and marker.encode() in line and b'"operation":"write"' in line:
                    dropped.append(kept.pop(index))
                    break
            return b"".join(kept)

    return edit
