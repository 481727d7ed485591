"""`POST /v1/batches`: admit, authenticate, check, stage, and answer when it is durable."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Final

import msgspec

from ingest.admission import Reservation
from ingest.batch import ARROW, NDJSON, Arrived, Batch
from ingest.body import checked_digest, expected_digest
from ingest.memory import Answer
from ingest.requests import Call, bearer, declared_length, read_body, require_type
from ingest.service import Service
from kaimon.base.clock import to_micros
from kaimon.base.logs import get_logger
from kaimon.base.problems import Problem
from tenancy.credentials import HostIdentity

MOST_ERRORS: Final = 100
"""Rejected lines that an answer names; `rejected` counts them all, and quarantine keeps them all."""

_HASHED_AT_ONCE: Final = 256 * 1024
"""A body of this many bytes is hashed before a thread would have begun."""


async def take_batch(call: Call, service: Service) -> None:
    """Answer one batch: 200 once it is durable, else a problem."""
    settings = service.settings
    sender = await _sender(call, service)
    call.said.update(tenant=sender.tenant_id, agent_id=sender.agent_id)
    kind = require_type(call, NDJSON, ARROW)
    if (call.header(b"content-encoding") or "").strip().lower() != "zstd":
        raise Problem(415, "unsupported_media_type", "Unsupported media type", "want Content-Encoding: zstd")
    expected = expected_digest(call.header(b"content-digest"))
    length = declared_length(call, settings.max_compressed_bytes)
    with service.admission.reserve(length, sender.tenant_id) as reservation:
        body = await read_body(call, settings.max_compressed_bytes, settings.body_timeout_s, reservation)
        received_at = to_micros(service.clock())
        service.metrics.body_bytes.inc(len(body))
        service.metrics.tenant_bytes.labels(tenant=sender.tenant_id).inc(len(body))
        call.said["bytes"] = len(body)
        digest = await _digest(body, expected, service)
        arrived = Arrived(body, digest, received_at, sender, kind)
        known = service.recent.find(arrived.key)
        if known is None:
            answer = await _first(call, service, arrived, reservation)
            await _answer(call, service, answer, duplicate=False)
            return
        del body, arrived
        reservation.release()
        answer = known if isinstance(known, Answer) else await asyncio.shield(known)
    await _answer(call, service, answer, duplicate=True)


async def _sender(call: Call, service: Service) -> HostIdentity:
    token = bearer(call)
    sender = service.authenticator.authenticate_cached(token)
    if sender is None:
        sender = await service.ask(partial(service.authenticator.authenticate, token, call.source))
    if (warning := sender.subscription.warning) is not None:
        call.headers["Kaimon-Subscription"] = warning
    return sender


async def _digest(body: bytes, expected: bytes, service: Service) -> str:
    if len(body) <= _HASHED_AT_ONCE:
        return checked_digest(body, expected)
    return await asyncio.get_running_loop().run_in_executor(service.hashing, checked_digest, body, expected)


async def _first(call: Call, service: Service, arrived: Arrived, reservation: Reservation) -> Answer:
    """Stage a batch that is not known; copies of it that come meanwhile get the same answer."""
    future = service.recent.begin(arrived.key)
    try:
        answer = await _stage(call, service, arrived, reservation)
    except BaseException as error:
        future.set_exception(error if isinstance(error, Problem) else _lost_its_way())
        # Read it: there may be no copy to do so, and asyncio would complain.
        future.exception()
        raise
    future.set_result(answer)
    return answer


async def _stage(call: Call, service: Service, arrived: Arrived, reservation: Reservation) -> Answer:
    batch = await service.parsing.read(arrived, reservation.resize)
    reservation.resize(batch.size)
    key, tenant, record = arrived.key, arrived.sender.tenant_id, batch.record
    del arrived
    if service.recent.another(tenant, record.identity, record.digest):
        service.metrics.conflicts.inc()
        get_logger(__name__).warning(
            "batch_conflict",
            tenant=tenant,
            agent_id=record.agent_id,
            load_id=record.load_id,
            batch_seq=record.batch_seq,
            digest=record.digest,
        )
    answer = Answer(record.rows, record.rejected, _errors(batch))
    call.said.update(load_id=record.load_id, batch_seq=record.batch_seq, rows=record.rows, rejected=record.rejected)
    await service.committer.stage(
        tenant,
        (record, batch.rows, batch.rejected),
        reservation,
        lambda: service.recent.remember(key, answer),
    )
    service.metrics.staged(batch)
    service.metrics.tenant_batches.labels(tenant=tenant).inc()
    service.metrics.tenant_events.labels(tenant=tenant).inc(record.rows)
    service.authenticator.use.add(tenant, record.rows)
    return answer


def _errors(batch: Batch) -> tuple[dict[str, Any], ...]:
    return tuple({"line": line.line, "code": line.code, "detail": line.detail} for line in batch.rejected[:MOST_ERRORS])


async def _answer(call: Call, service: Service, answer: Answer, *, duplicate: bool) -> None:
    service.metrics.batches.labels(duplicate=str(duplicate).lower()).inc()
    call.said["duplicate"] = duplicate
    body = {
        "accepted": answer.accepted,
        "rejected": answer.rejected,
        "duplicate": duplicate,
        "errors": list(answer.errors),
    }
    await call.answer(200, msgspec.json.encode(body), "application/json")


def _lost_its_way() -> Problem:
    """What a copy is told when the request that it waited for ended without an answer of its own."""
    return Problem(503, "try_again", "Try again", headers={"Retry-After": "1"})
