"""The outermost layer: the hot route, a request id, one access record, metrics, and every error as problem+json."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from ingest.metrics import Metrics
from ingest.requests import Call
from kaimon.base.access import OK, Access, report
from kaimon.base.clock import utc_now
from kaimon.base.logs import get_logger, log_request
from kaimon.base.problems import PROBLEM_TYPE, Problem
from kaimon.base.redact import redact

Route = Callable[[Call], Coroutine[Any, Any, None]]
_GONE: Final = 499
"""Logged when the client left without waiting for an answer."""
_TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Edge:
    """The ASGI application. What is asked for often goes straight to its route; the rest goes through the framework."""

    def __init__(self, app: ASGIApp, metrics: Metrics, drain_bytes: int, hot: dict[str, Route]) -> None:
        """Wrap `app`.

        Args:
            app: what answers.
            metrics: where to count.
            drain_bytes: how much of a body that nobody wants is read and thrown away, so that its sender, who may be
                in the middle of it, sees the answer and not a broken connection.
            hot: routes by path, for POST alone, that `app` is not asked for.
        """
        self._app = app
        self._metrics = metrics
        self._drain_bytes = drain_bytes
        self._hot = hot
        self._paths = {getattr(route, "path", "") for route in getattr(app, "routes", ())} | hot.keys()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        call = Call(scope, receive, send)
        hot = self._hot.get(scope["path"])
        began = time.perf_counter()
        try:
            if hot is None:
                # Nowhere else: a call and a scope that hold each other are garbage that somebody has to find.
                scope.setdefault("state", {})["call"] = call
                await self._app(scope, call.receive, call.send)
            elif scope["method"] == "POST":
                await hot(call)
            else:
                await self._refuse(call, _not_allowed())
        except Problem as problem:
            await self._refuse(call, problem)
        except ClientDisconnect:
            call.status = _GONE
        except Exception:  # noqa: BLE001 - the last one who can answer
            get_logger(__name__).exception("request_failed", request_id=call.request_id)
            await self._refuse(call, internal())
        finally:
            self._account(call, time.perf_counter() - began)

    async def _refuse(self, call: Call, problem: Problem) -> None:
        await refuse(call, problem, self._drain_bytes)

    def _account(self, call: Call, took_s: float) -> None:
        path, said = call.scope["path"], call.said
        # Any other path is what somebody sent.
        route = path if path in self._paths else getattr(call.scope.get("route"), "path", "unknown")
        status = call.status or 0
        if "code" in said:
            self._metrics.refusals.labels(code=said["code"]).inc()
            if "tenant" in said:
                self._metrics.tenant_refusals.labels(tenant=said["tenant"], code=said["code"]).inc()
        self._metrics.answered(route, status, took_s)
        record = _access(call, route, status, round(took_s * 1000, 1))
        report(record)
        log_request(
            record.at,
            request_id=record.request_id,
            method=call.scope["method"],
            route=route,
            status=status,
            source=record.origin,
            took_ms=record.took_ms,
            **said,
        )


def _access(call: Call, route: str, status: int, took_ms: float) -> Access:
    """Return the record of a call: routes and ids of ours only, since all else is what somebody sent."""
    said, method = call.said, call.scope["method"]
    outcome = OK if 0 < status < 400 else "client_gone" if status == _GONE else "no_answer"
    return Access(
        at=utc_now(),
        kind="call",
        what=f"{method if method in _METHODS else 'OTHER'} {route}",
        outcome=said.get("code", outcome),
        tenant=said.get("tenant"),
        object=f"{said['load_id']}/{said['batch_seq']}" if "load_id" in said else None,
        who=said.get("agent_id"),
        origin=call.source or None,
        request_id=call.request_id,
        trace=_trace(call),
        status=status,
        took_ms=took_ms,
        bytes=said.get("bytes"),
        count=said.get("rows"),
    )


def _trace(call: Call) -> str | None:
    given = call.header(b"traceparent")
    return given if given is not None and _TRACEPARENT.fullmatch(given) else None


async def refuse(call: Call, problem: Problem, drain_bytes: int) -> None:
    """Answer with a problem, unless an answer has begun; the rest of the body is read first."""
    call.said.update(problem.about, code=problem.code)
    if call.status is not None:
        return
    await call.drain(drain_bytes)
    # What a detail quotes may be a token in the wrong place, and its sender keeps logs as well.
    body = redact(msgspec.json.encode(problem.body(call.request_id)).decode())
    await call.answer(problem.status, body.encode(), PROBLEM_TYPE, problem.headers)


def _not_allowed() -> Problem:
    return Problem(405, "method_not_allowed", "Method Not Allowed", headers={"Allow": "POST"})


def internal() -> Problem:
    """500: the log says what it was."""
    return Problem(500, "internal", "Something went wrong on our side")


def call_of(request: Any) -> Call:
    """Return the call behind a request of the framework."""
    call: Call = request.scope["state"]["call"]
    return call
