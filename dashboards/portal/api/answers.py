"""A POST with an Idempotency-Key: it acts once; sent again, it gets the answer that it got."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from dashboards.portal.api.call import ApiCall
from kaimon.base.problems import Problem
from tenancy.api_answers import ReusedError, UnderWayError, begin, claim_of, forget, keep

_NAME: Final = re.compile(r"[!-~]{1,255}")
_PASSING: Final = 500
"""From this status on nothing is kept: the same request may go better."""


async def once(call: ApiCall, names: tuple[str, str], asked: bytes, act: Callable[[], Awaitable[Response]]) -> Response:
    """Act, or return what was answered when this was asked before.

    Args:
        call: who asks.
        names: the API key and the Idempotency-Key, as they were sent.
        asked: what is asked: the same key with another question is refused.
        act: acts and answers.

    Raises:
        Problem: 400 no key; 409 the first request has no answer yet; 422 it was another request.
    """
    if not _NAME.fullmatch(names[1]):
        raise Problem(400, "bad_idempotency_key", "Not an Idempotency-Key", "Want 1 to 255 visible characters.")
    claim = claim_of(*names)
    try:
        before = await run_in_threadpool(begin, call.db, call.scope.tenant_id, claim, asked)
    except ReusedError as error:
        raise Problem(422, "idempotency_key_reused", "Another request's key", str(error)) from error
    except UnderWayError as error:
        told = "Ask again in a moment; if this stays, look whether it was done, and take another key."
        raise Problem(409, "under_way", str(error), told, {"Retry-After": "1"}) from error
    if before is not None:
        return _read(before)
    try:
        answer = await act()
    except Problem:
        # Raised before anything was done: the framework turns a route's own refusals into answers.
        await run_in_threadpool(forget, call.db, claim)
        raise
    if answer.status_code >= _PASSING:
        await run_in_threadpool(forget, call.db, claim)
    else:
        await run_in_threadpool(keep, call.db, claim, _written(answer))
    return answer


def _written(answer: Response) -> bytes:
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.raw_headers]
    body = base64.b64encode(bytes(answer.body)).decode()
    return json.dumps({"status": answer.status_code, "headers": headers, "body": body}).encode()


def _read(kept: bytes) -> Response:
    found = json.loads(kept)
    answer = Response(base64.b64decode(found["body"]), found["status"])
    answer.raw_headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in found["headers"]]
    answer.headers["Idempotent-Replay"] = "true"
    return answer
