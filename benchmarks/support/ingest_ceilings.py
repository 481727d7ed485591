"""The least that any ingest does, on the very same server: `ingest_ceilings.py discard|open` reads bodies and answers.

`discard` reads a body and throws it away. `open` also hashes it and opens its zstd frame.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from ingest.body import checked_digest, decompress, expected_digest
from ingest.server import serve
from ingest.settings import IngestSettings
from kaimon.base.logs import configure_logs


async def answer(mode: str, scope: Any, receive: Any, send: Any) -> None:
    """Answer any request with 200 once its body is read, and opened if `mode` says so."""
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return
    pieces, more = [], True
    while more:
        message = await receive()
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
    if mode == "open" and scope["method"] == "POST":
        headers = dict(scope["headers"])
        body = b"".join(pieces)
        checked_digest(body, expected_digest(headers[b"content-digest"].decode()))
        decompress(body, 64 << 20)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"{}"})


def load(mode: str, _settings: IngestSettings) -> Any:
    """Return the application of that mode."""
    return partial(answer, mode)


if __name__ == "__main__":
    configure_logs("ingest")
    serve(IngestSettings(), partial(load, sys.argv[1]))
