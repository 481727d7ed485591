"""`POST /v1/batches`: admit, authenticate, check, stage, and answer when it is durable."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ingest.admission import Reservation
from ingest.batch import Arrived, Batch, read_batch
from ingest.body import checked_digest, expected_digest
from ingest.edge import said
from ingest.memory import Answer
from ingest.requests import bearer, declared_length, read_body, require_type, source
from ingest.service import Service
from kaimon.base.clock import to_micros
from kaimon.base.problems import Problem
from tenancy.credentials import HostIdentity

MOST_ERRORS: Final = 100
"""Rejected lines that an answer names; `rejected` counts them all, and quarantine keeps them all."""


async def take_batch(request: Request, service: Service) -> Response:
    """Answer one batch: 200 once it is durable, else a problem."""
    settings = service.settings
    sender = await _sender(request, service)
    said(request.scope).update(tenant=sender.tenant_id, agent_id=sender.agent_id)
    require_type(request, "application/x-ndjson")
    if request.headers.get("content-encoding", "").strip().lower() != "zstd":
        raise Problem(415, "unsupported_media_type", "Unsupported media type", "want Content-Encoding: zstd")
    expected = expected_digest(request.headers.get("content-digest"))
    length = declared_length(request, settings.max_compressed_bytes)
    with service.admission.reserve(length) as reservation:
        body = await read_body(request, settings.max_compressed_bytes, settings.body_timeout_s, reservation)
        received_at = to_micros(service.clock())
        service.metrics.body_bytes.inc(len(body))
        said(request.scope).update(bytes=len(body))
        loop = asyncio.get_running_loop()
        digest = await loop.run_in_executor(service.parsing, checked_digest, body, expected)
        arrived = Arrived(body, digest, received_at, sender)
        known = service.recent.find(arrived.key)
        if known is None:
            answer = await _first(request, service, arrived, reservation)
            return _answered(request, service, answer, duplicate=False)
        del body, arrived
        reservation.release()
        answer = known if isinstance(known, Answer) else await asyncio.shield(known)
    return _answered(request, service, answer, duplicate=True)


async def _sender(request: Request, service: Service) -> HostIdentity:
    token = bearer(request)
    sender = service.authenticator.authenticate_cached(token)
    if sender is None:
        asked = asyncio.get_running_loop().run_in_executor(
            service.asking, service.authenticator.authenticate, token, source(request)
        )
        sender = await asked
    return sender


async def _first(request: Request, service: Service, arrived: Arrived, reservation: Reservation) -> Answer:
    """Stage a batch that is not known; copies of it that come meanwhile get the same answer."""
    future = service.recent.begin(arrived.key)
    try:
        answer = await _stage(request, service, arrived, reservation)
    except BaseException as error:
        future.set_exception(error if isinstance(error, Problem) else _lost_its_way())
        # Read it: there may be no copy to do so, and asyncio would complain.
        future.exception()
        raise
    future.set_result(answer)
    return answer


async def _stage(request: Request, service: Service, arrived: Arrived, reservation: Reservation) -> Answer:
    batch = await asyncio.get_running_loop().run_in_executor(
        service.parsing, read_batch, arrived, service.settings, reservation.resize
    )
    reservation.resize(batch.size)
    key, tenant = arrived.key, arrived.sender.tenant_id
    del arrived
    answer = Answer(batch.record.rows, batch.record.rejected, _errors(batch))
    said(request.scope).update(
        load_id=batch.record.load_id,
        batch_seq=batch.record.batch_seq,
        rows=batch.record.rows,
        rejected=batch.record.rejected,
    )
    await service.committer.stage(
        tenant,
        (batch.record, batch.rows, batch.rejected),
        reservation,
        lambda: service.recent.remember(key, answer),
    )
    service.metrics.events.inc(batch.record.rows)
    service.metrics.slow_parses.inc(batch.slow)
    for code, count in Counter(line.code for line in batch.rejected).items():
        service.metrics.rejected.labels(code=code).inc(count)
    return answer


def _errors(batch: Batch) -> tuple[dict[str, Any], ...]:
    return tuple({"line": line.line, "code": line.code, "detail": line.detail} for line in batch.rejected[:MOST_ERRORS])


def _answered(request: Request, service: Service, answer: Answer, *, duplicate: bool) -> Response:
    service.metrics.batches.labels(duplicate=str(duplicate).lower()).inc()
    said(request.scope).update(duplicate=duplicate)
    body = {
        "accepted": answer.accepted,
        "rejected": answer.rejected,
        "duplicate": duplicate,
        "errors": list(answer.errors),
    }
    return Response(msgspec.json.encode(body), media_type="application/json")


def _lost_its_way() -> Problem:
    """What a copy is told when the request that it waited for ended without an answer of its own."""
    return Problem(503, "try_again", "Try again", headers={"Retry-After": "1"})
