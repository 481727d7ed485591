"""The application: routes, and what stands around them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from ingest import document
from ingest.batches import take_batch
from ingest.edge import Edge
from ingest.enroll import take_enrollment
from ingest.metrics import Metrics
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
) -> FastAPI:
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
    app.add_middleware(Edge, metrics=metrics, drain_bytes=settings.max_compressed_bytes)
    app.add_exception_handler(HTTPException, _as_problem)

    @app.post("/v1/batches", **document.BATCHES)
    async def batches(request: Request) -> Response:
        return await take_batch(request, _service(app))

    @app.post("/v1/enroll", status_code=201, **document.ENROLL)
    async def enroll(request: Request) -> Response:
        return await take_enrollment(request, _service(app))

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
    async def prometheus() -> Response:
        text, kind = metrics.exposition()
        return Response(text, headers={"Content-Type": kind})

    document.complete(app)
    return app


def _service(app: FastAPI) -> Service:
    service: Service = app.state.service
    return service


async def _as_problem(_request: Request, error: Exception) -> Response:
    """Let the edge render what the framework refuses: unknown paths, wrong methods."""
    if not isinstance(error, HTTPException):
        raise error
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "refused")
    raise Problem(error.status_code, code, str(error.detail), headers=dict(error.headers or {}))
