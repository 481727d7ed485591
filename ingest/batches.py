"""`POST /v1/batches`: admit, authenticate, check, stage, and answer when it is durable."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

import msgspec

from ingest.admission import Reservation
from ingest.batch import ARROW, NDJSON, Arrived, Batch, Unread, small_size
from ingest.body import checked_digest, expected_digest
from ingest.memory import Answer, BatchKey
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
        body = await read_body(call, settings.max_compressed_bytes, service.reading, reservation)
        received_at = to_micros(service.clock())
        service.metrics.body_bytes.inc(len(body))
        service.metrics.of(sender.tenant_id).bytes.inc(len(body))
        call.said["bytes"] = len(body)
        if len(body) <= _HASHED_AT_ONCE:
            digest = checked_digest(body, expected)
        else:
            hashing = asyncio.get_running_loop().run_in_executor
            digest = await hashing(service.hashing, checked_digest, body, expected)
        arrived = Arrived(body, digest, received_at, sender, kind)
        known = service.recent.find(arrived.key)
        if known is None:
            answer = await _first(call, service, arrived, reservation)
            await _answer(call, service, answer, duplicate=False)
            return
        del body, arrived
        reservation.release()
        answer = known if isinstance(known, Answer) else await known.wait()
    await _answer(call, service, answer, duplicate=True)


async def _sender(call: Call, service: Service) -> HostIdentity:
    token = bearer(call)
    sender = service.authenticator.authenticate_cached(token)
    if sender is None:
        sender = await service.ask(partial(service.authenticator.authenticate, token, call.source))
    if (warning := sender.subscription.warning) is not None:
        call.headers["Kaimon-Subscription"] = warning
    return sender


async def _first(call: Call, service: Service, arrived: Arrived, reservation: Reservation) -> Answer:
    """Stage a batch that is not known; copies of it that come meanwhile get the same answer."""
    pending = service.recent.begin(arrived.key)
    try:
        batch = await _stage(service, arrived, reservation)
    except BaseException as error:
        pending.fail(error if isinstance(error, Problem) else _lost_its_way())
        raise
    record = batch.record
    call.said.update(load_id=record.load_id, batch_seq=record.batch_seq, rows=record.rows, rejected=record.rejected)
    answer = _answer_of(batch)
    pending.settle(answer)
    return answer


async def _stage(service: Service, arrived: Arrived, reservation: Reservation) -> Batch:
    """Return the batch once it is durable; a small one is read with its neighbours, when their segment is made."""
    key, size = arrived.key, small_size(arrived, service.settings)
    unread = Unread(arrived, service.settings, reservation.resize)
    noted = partial(_note, service, key)
    if size is not None:
        return await service.committer.stage(key[0], unread, reservation, noted, size)
    batch = await service.parsing.read(unread)
    reservation.resize(batch.size)
    return await service.committer.stage(key[0], batch, reservation, noted)


def _note(service: Service, key: BatchKey, batch: Batch) -> None:
    """Take note of a batch that is durable."""
    tenant, record = key[0], batch.record
    service.recent.remember(key, _answer_of(batch))
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
    service.metrics.staged(tenant, batch)
    service.authenticator.use.add(tenant, record.rows)


def _answer_of(batch: Batch) -> Answer:
    if not batch.rejected:
        return Answer(batch.record.rows, 0)
    named = ({"line": line.line, "code": line.code, "detail": line.detail} for line in batch.rejected[:MOST_ERRORS])
    return Answer(batch.record.rows, batch.record.rejected, tuple(named))


async def _answer(call: Call, service: Service, answer: Answer, *, duplicate: bool) -> None:
    (service.metrics.duplicate_batches if duplicate else service.metrics.new_batches).inc()
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
