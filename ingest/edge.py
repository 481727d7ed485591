"""The outermost layer: a request id, one access log line, metrics, and every error as problem+json."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from typing import Any, Final

import msgspec
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingest.metrics import Metrics
from kaimon.base.logs import get_logger
from kaimon.base.problems import PROBLEM_TYPE, Problem

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DRAIN_S: Final = 5.0
_GONE: Final = 499
"""Logged when the client left without waiting for an answer."""


class Edge:
    """ASGI middleware; handlers add what the access log should say to `scope["state"]["said"]`."""

    def __init__(self, app: ASGIApp, metrics: Metrics, drain_bytes: int) -> None:
        """Wrap `app`.

        Args:
            app: what answers.
            metrics: where to count.
            drain_bytes: how much of a body that nobody wants is read and thrown away, so that its sender, who may be
                in the middle of it, sees the answer and not a broken connection.
        """
        self._app = app
        self._metrics = metrics
        self._drain_bytes = drain_bytes
        self._log = get_logger("ingest.access")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        state = scope.setdefault("state", {})
        state["request_id"], state["said"] = exchange.request_id, {}
        began = time.perf_counter()
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except Problem as problem:
            await self._refuse(exchange, problem)
        except ClientDisconnect:
            exchange.status = _GONE
        except Exception:  # noqa: BLE001 - the last one who can answer
            get_logger(__name__).exception("request_failed", request_id=exchange.request_id)
            await self._refuse(exchange, Problem(500, "internal", "Something went wrong on our side"))
        finally:
            self._account(scope, exchange, time.perf_counter() - began)

    async def _refuse(self, exchange: _Exchange, problem: Problem) -> None:
        exchange.scope["state"]["said"]["code"] = problem.code
        self._metrics.refusals.labels(code=problem.code).inc()
        if exchange.status is not None:
            return
        await exchange.drain(self._drain_bytes)
        response = Response(
            msgspec.json.encode(problem.body(exchange.request_id)),
            status_code=problem.status,
            headers=problem.headers,
            media_type=PROBLEM_TYPE,
        )
        await response(exchange.scope, exchange.receive, exchange.send)

    def _account(self, scope: Scope, exchange: _Exchange, took_s: float) -> None:
        route = getattr(scope.get("route"), "path", "unknown")
        status = exchange.status or 0
        self._metrics.requests.labels(route=route, status=str(status)).inc()
        self._metrics.request_seconds.labels(route=route).observe(took_s)
        client = scope.get("client")
        self._log.info(
            "request",
            request_id=exchange.request_id,
            method=scope["method"],
            route=route,
            status=status,
            source=client[0] if client else None,
            took_ms=round(took_s * 1000, 1),
            **scope["state"]["said"],
        )


class _Exchange:
    """One request's way in and out, observed."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        self.request_id = given if _REQUEST_ID.fullmatch(given) else f"req_{secrets.token_hex(8)}"
        self.status: int | None = None
        self._receive = receive
        self._send = send
        self._more = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        # The sender waits for leave to send: refusing it is an answer in time.
        self._waits = headers.get("expect", "").lower() == "100-continue"

    async def receive(self) -> Message:
        message = await self._receive()
        self._waits = False
        self._more = message["type"] == "http.request" and bool(message.get("more_body", False))
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", self.request_id.encode())]
        await self._send(message)

    async def drain(self, most: int) -> None:
        """Read what is left of the body, up to `most` bytes and a few seconds, and keep none of it."""
        if self._waits:
            return
        left = most
        try:
            async with asyncio.timeout(_DRAIN_S):
                while self._more and left > 0:
                    left -= len((await self.receive()).get("body", b""))
        except TimeoutError:
            return


def said(scope: Scope) -> dict[str, Any]:
    """Return what the access log will say of this request besides the obvious; never put a secret into it."""
    state: dict[str, Any] = scope["state"]["said"]
    return state
