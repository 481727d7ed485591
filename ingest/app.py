"""The application: routes, and what stands around them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from ingest import document
from ingest.batches import take_batch
from ingest.edge import Edge, call_of, internal, refuse
from ingest.enroll import take_enrollment
from ingest.metrics import Metrics
from ingest.requests import Call, is_within
from ingest.service import Service, end_process, running
from ingest.settings import IngestSettings
from kaimon.base.build import VERSION
from kaimon.base.clock import Clock, utc_now
from kaimon.base.problems import Problem
from lake.stores import Store


def create_app(
    settings: IngestSettings | None = None,
    store: Store | None = None,
    clock: Clock = utc_now,
    on_fatal: Callable[[], None] = end_process,
) -> ASGIApp:
    """Return the application; its lifespan opens the control database and writes out what waits at the end.

    Args:
        settings: from the environment if not given.
        store: the staging store, if it is not the configured one.
        clock: what time it is.
        on_fatal: called when this process must not go on; it is asked to stop by default.
    """
    settings = settings or IngestSettings()
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with running(settings, metrics, store, clock, on_fatal) as service:
            app.state.service = service
            yield

    # Its pages load scripts from elsewhere: only the document itself is served.
    app = FastAPI(title="kaimon ingest", version=VERSION, lifespan=lifespan, docs_url=None, redoc_url=None)

    def batches(call: Call) -> Coroutine[Any, Any, None]:
        return take_batch(call, _service(app))

    async def refused(request: Request, error: Exception) -> Response:
        return _Refused(call_of(request), _problem_of(error), settings.max_compressed_bytes)

    for kind in (Problem, HTTPException, Exception):
        app.add_exception_handler(kind, refused)

    @app.post("/v1/enroll", status_code=201, **document.ENROLL)
    async def enroll(request: Request) -> Response:
        return await take_enrollment(call_of(request), _service(app))

    @app.get("/healthz", **document.HEALTH)
    async def healthz() -> Response:
        return Response(b'{"status":"alive"}', media_type="application/json")

    @app.get("/readyz", **document.READY)
    async def readyz() -> Response:
        reason = _service(app).why_not_ready()
        if reason is not None:
            raise Problem(503, "not_ready", "Not ready", reason, headers={"Retry-After": "1"})
        body = {"status": "ready", "node": _service(app).committer.node, "version": VERSION}
        return Response(msgspec.json.encode(body), media_type="application/json")

    @app.get("/metrics", **document.METRICS)
    async def prometheus(request: Request) -> Response:
        return _metrics(call_of(request), settings, metrics)

    document.complete(app)
    return Edge(app, metrics, settings.max_compressed_bytes, {document.BATCHES_PATH: batches})


def _service(app: FastAPI) -> Service:
    service: Service = app.state.service
    return service


def _metrics(call: Call, settings: IngestSettings, metrics: Metrics) -> Response:
    if not is_within(call.source, settings.metrics_from):
        raise Problem(404, "not_found", "Not Found")
    text, kind = metrics.exposition()
    return Response(text, headers={"Content-Type": kind})


class _Refused(Response):
    """What the framework sends where it would make an answer of its own."""

    def __init__(self, call: Call, problem: Problem, drain_bytes: int) -> None:
        super().__init__()
        self._answer = partial(refuse, call, problem, drain_bytes)

    async def __call__(self, _scope: Scope, _receive: Receive, _send: Send) -> None:
        await self._answer()


def _problem_of(error: Exception) -> Problem:
    """Return the problem that an error is; the framework's own are unknown paths and wrong methods."""
    if isinstance(error, Problem):
        return error
    if not isinstance(error, HTTPException):
        return internal()
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "refused")
    return Problem(error.status_code, code, str(error.detail), headers=dict(error.headers or {}))
