"""Where Stripe sends its events: no session and no form of ours, its signature is the proof."""

from __future__ import annotations

import json
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from dashboards.portal.processor import Processor
from dashboards.portal.stripe_events import genuine, notice_of
from kaimon.base.acting import Actor, acting_as
from kaimon.base.logs import get_logger
from kaimon.base.problems import PROBLEM_TYPE, Problem
from tenancy.billing import Notice, Outcome, customer_by_id, hear
from tenancy.database import Database
from tenancy.refusals import answering_unavailable

PATH: Final = "/stripe/events"
ACTOR: Final = "stripe"
MAX_BYTES: Final = 256 * 1024
_TRIES: Final = 3


async def answer(db: Database, processor: Processor, request: Request) -> Response:
    """Answer one event: 200 once it need not come again, whatever became of it.

    Raises:
        Problem: 404, no secret is set; 400, 413, it is not taken; 503, it should come again.
    """
    if not processor.webhook_secrets:
        raise Problem(404, "not_found", "Not found")
    body = await _body(request)
    return await run_in_threadpool(_taken, db, processor, request, body)


def refusal(problem: Problem, request_id: str) -> Response:
    """Return a problem as programs read it."""
    body = json.dumps(problem.body(request_id))
    return Response(body, problem.status, dict(problem.headers), PROBLEM_TYPE)


def _taken(db: Database, processor: Processor, request: Request, body: bytes) -> Response:
    settings = processor.settings
    log = get_logger(__name__)
    try:
        signature = request.headers.get("stripe-signature", "")
        event = genuine(body, signature, processor.webhook_secrets, settings.stripe_tolerance_s, live=processor.live)
        notice = notice_of(event)
    except Problem as problem:
        log.warning("stripe_event_refused", code=problem.code, request_id=request.state.request_id)
        raise
    if notice is None:
        return JSONResponse({"outcome": "ignored"})
    origin = request.client.host if request.client else None
    with acting_as(Actor(ACTOR, origin, request.state.request_id)), answering_unavailable():
        tenant, outcome = _heard(db, processor, notice)
    request.scope["kaimon_person"] = ACTOR
    request.scope["kaimon_tenant"] = tenant
    told = log.warning if outcome == "unknown" else log.info
    told(
        "stripe_event",
        event_id=notice.event_id,
        kind=notice.kind,
        customer=notice.customer_id,
        tenant=tenant,
        outcome=outcome,
        api_version=str(event.get("api_version")),
    )
    return JSONResponse({"outcome": outcome})


def _heard(db: Database, processor: Processor, notice: Notice) -> tuple[str | None, Outcome]:
    tenant, outcome = hear(db, notice, wins_ties=not processor.can_ask)
    if outcome != "unsure":
        return tenant, outcome
    for _ in range(_TRIES):
        # What is asked after the version was read is at least as new as whatever had counted by then.
        known = customer_by_id(db, notice.customer_id)
        now = processor.subscription(notice)
        tenant, outcome = hear(db, now, sure=True, version=None if known is None else known.version)
        if outcome != "unsure":
            return tenant, outcome
    raise Problem(503, "busy", "Others changed it meanwhile", "Send it again.", {"Retry-After": "5"})


async def _body(request: Request) -> bytes:
    too_large = Problem(413, "too_large", "Too large", f"Want at most {MAX_BYTES} bytes.")
    told = request.headers.get("content-length", "")
    if told.isdigit() and int(told) > MAX_BYTES:
        raise too_large
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BYTES:
            raise too_large
    return bytes(body)
