"""Tokens of every kind, seeded wherever a request may carry them: none is in a log, a metric, an argv or an answer."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
import structlog
import zstandard

from ingest.app import create_app
from ingest.settings import IngestSettings
from kaimon.base.logs import configure_logs
from tenancy.audit import read_chain
from tenancy.database import Database
from tenancy.enrollment import create_token
from tenancy.tokens import mint


def secret(token: str) -> str:
    return token[8:-4]


def seeded(token: str, host: Any, wire: ModuleType) -> list[dict[str, Any]]:
    """Requests with a token in every place that a client fills in."""
    odd = {"X-Request-Id": token, "User-Agent": token, "traceparent": token, "Forwarded": token, "Cookie": token}
    body = zstandard.compress(wire.lines(host.header(agent_version=token[:60]), f'{{"broken":"{token}"}}'.encode()))
    good = host.headers(body)
    return [
        {"method": "GET", "url": f"/v1/{token}?token={token}", "headers": odd},
        {"method": token, "url": "/healthz"},
        {"method": "POST", "url": "/v1/batches", "headers": odd | {"Authorization": f"Bearer {token}"}},
        {
            "method": "POST",
            "url": "/v1/enroll",
            "headers": odd | {"Authorization": f"Bearer {token}"},
            "json": {token: 1},
        },
        {"method": "POST", "url": "/v1/batches", "headers": good | odd, "content": body},
        {"method": "POST", "url": "/v1/batches", "headers": good | {"Content-Type": token}, "content": body},
        {"method": "POST", "url": "/v1/batches", "headers": good | {"Content-Digest": token}, "content": body},
        {"method": "POST", "url": "/v1/batches", "headers": good | {"Content-Length": token}},
    ]


def command_lines(server: Any) -> list[str]:
    """The argv of the server and of every process that it started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            group = int((folder / "stat").read_text().rpartition(")")[2].split()[2])
            if group == server.process.pid:
                found.append((folder / "cmdline").read_text())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def test_no_token_of_any_kind_leaves_a_server_that_was_shown_it(
    server: Any, database: Database, host: Any, wire: ModuleType
) -> None:
    _, enrollment = create_token(database, host.tenant)
    tokens = [mint("enr"), mint("hst"), mint("api"), enrollment, host.credential]
    answers = []
    for token in tokens:
        for request in seeded(token, host, wire):
            try:
                answer = server.client.request(**request)
            except httpx.TransportError:
                continue  # the server or the client would not even take it
            headers = {name: value for name, value in answer.headers.items() if name != "x-request-id"}
            answers.append((token, answer.text + repr(headers)))
    assert len(answers) >= 6 * len(tokens)
    server.client.get("/healthz", headers={"X-Request-Id": "the-last-of-these"})

    def kept() -> bytes:
        objects = [path.read_bytes() for path in (server.home / "audit" / "access").rglob("*.zst")]
        return b"".join(zstandard.ZstdDecompressor().decompressobj().decompress(data) for data in objects)

    wire.wait_until(lambda: b"the-last-of-these" in kept(), "the access log", 60)
    chain = json.dumps([record.body for record in read_chain(database, host.tenant)[1]])
    places = {
        "log": server.log.read_text(),
        "metrics": server.client.get("/metrics").text,
        "access log": kept().decode(),
        "audit chain": chain,
        "argv": "\n".join(command_lines(server)),
    }
    assert "ingest\0serve" in places["argv"]
    assert places["argv"].count("\n") >= 1, "the worker, too"
    assert "[redacted]" in places["log"]
    assert "[redacted]" in places["access log"]
    for token in tokens:
        for name, text in places.items():
            assert secret(token) not in text, name
    # A request's id goes back to its sender; nothing else that it said does.
    assert all(secret(token) not in text for token, text in answers)


@pytest.mark.parametrize("kind", ["enr", "hst", "api"])
def test_a_route_that_breaks_with_a_token_in_hand_tells_nobody(
    kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = mint(kind)
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logs("test", logging.DEBUG)

    async def broken(*_: Any) -> None:
        local = {"authorization": f"Bearer {token}"}
        raise RuntimeError(f"cannot take {local}")

    edge: Any = create_app(IngestSettings(home=tmp_path))
    for route in edge._app.routes:
        monkeypatch.setattr(route, "app", broken)
    monkeypatch.setitem(edge._hot, "/v1/batches", broken)

    async def work() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=edge, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="https://localhost") as client:
            headers = {"Authorization": f"Bearer {token}"}
            paths = ["/v1/batches", "/v1/enroll"]
            return [await client.post(path, headers=headers) for path in paths]

    try:
        answers = asyncio.run(work())
    finally:
        structlog.reset_defaults()
        root.handlers[:] = handlers
        root.setLevel(level)
    assert [answer.status_code for answer in answers] == [500, 500]
    assert all(secret(token) not in answer.text for answer in answers)
    assert "RuntimeError: cannot take" in stream.getvalue()
    assert secret(token) not in stream.getvalue()
