"""`POST /v1/enroll`: swap an enrollment token for a host's credential."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from starlette.responses import Response

from ingest.header import UUID_PATTERN, Host
from ingest.requests import Call, bearer, declared_length, read_body, require_type
from ingest.service import Service
from ingest.text import is_canonical
from kaimon.base.problems import Problem
from tenancy.enrollment import enroll

_LARGEST_BODY: Final = 16 * 1024


class Enrollment(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What a host says of itself when it enrolls; its name is fixed from then on."""

    hostname: Annotated[str, Meta(min_length=1, max_length=1024)]
    boot_id: Annotated[str, Meta(pattern=UUID_PATTERN)]
    agent_version: Annotated[str, Meta(min_length=1, max_length=64)]
    host: Host


_DECODER: Final = msgspec.json.Decoder(Enrollment)


async def take_enrollment(call: Call, service: Service) -> Response:
    """Answer one enrollment: 201 with the credential, this once."""
    token = bearer(call)
    require_type(call, "application/json")
    declared_length(call, _LARGEST_BODY)
    wish = _read(await read_body(call, _LARGEST_BODY, service.reading))
    ask = partial(
        enroll,
        service.db,
        token,
        wish.hostname,
        msgspec.to_builtins(wish.host),
        wish.boot_id,
        wish.agent_version,
        source=call.source,
        limiter=service.authenticator.limiter,
    )
    service.authenticator.require_answers()
    enrolled = await service.ask(ask)
    call.said.update(tenant=enrolled.tenant_id, agent_id=enrolled.agent_id)
    body = {"agent_id": enrolled.agent_id, "credential": enrolled.credential, "tenant": enrolled.tenant_id}
    return Response(
        msgspec.json.encode(body), 201, headers={"Cache-Control": "no-store"}, media_type="application/json"
    )


def _read(body: bytes) -> Enrollment:
    try:
        wish = _DECODER.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _bad(str(error)) from error
    host = wish.host
    for text in (wish.hostname, wish.agent_version, host.os, host.kernel, host.arch, host.cloud):
        if text is not None and not is_canonical(text):
            raise _bad("a text is not in the wire's escaping")
    return wish


def _bad(detail: str) -> Problem:
    return Problem(400, "bad_enrollment", "Bad enrollment", detail[:500])
