"""The access log's records: who did what to whose data. Every part reports; the process's outermost layer says whereto.

Ids, counts and times only. No token, no name or path that a customer's host told, no text that somebody wrote.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

import msgspec

from kaimon.base.acting import actor
from kaimon.base.clock import utc_now

Kind = Literal["call", "storage", "run", "command", "log"]
OK: Final = "ok"


class Access(msgspec.Struct, frozen=True, omit_defaults=True):
    """One access. `at` is when it ended (UTC); `took_ms` how long it took; `bytes` what was moved.

    `kind`: an API `call`, a `storage` access, a `run` of a step, a `command` of an operator, or the `log` itself.
    `what` was done, to which `object`, of which `tenant`; `outcome` is `ok`, a problem's code or an error's class.
    `who` (`agt_…`, `prs_…`, `system`) is None for a caller whom nobody knows. `trace` is the caller's `traceparent`.
    """

    at: datetime
    kind: Kind
    what: str
    outcome: str
    tenant: str | None = None
    object: str | None = None
    who: str | None = None
    origin: str | None = None
    request_id: str | None = None
    trace: str | None = None
    status: int | None = None
    took_ms: float | None = None
    bytes: int | None = None
    count: int | None = None


Sink = Callable[[Access], None]
"""What takes records; it must not block and must not raise."""

_SINKS: Final[list[Sink]] = []


@contextmanager
def reporting_to(sink: Sink) -> Iterator[None]:
    """Let everything in this process, on whatever thread, report to `sink` for the length of a `with`.

    The innermost one counts. A process that has none (the sandbox of a query, a benchmark) leaves no records: what it
    does is reported by who started it.
    """
    _SINKS.append(sink)
    try:
        yield
    finally:
        _SINKS.remove(sink)


def is_reporting() -> bool:
    """Say whether this process has a sink: one that works for it in another process then needs one too."""
    return bool(_SINKS)


def report(record: Access) -> None:
    """Hand a record to this process's sink."""
    if _SINKS:
        _SINKS[-1](record)


@dataclass
class Told:
    """What an access says of itself before it ends."""

    bytes: int | None = None
    count: int | None = None
    outcome: str = OK


@contextmanager
def accessing(
    kind: Kind,
    what: str,
    tenant: str | None = None,
    object: str | None = None,  # noqa: A002 - the record's word
) -> Iterator[Told]:
    """Report one access when the `with` ends, however it ends, on behalf of whoever is acting here."""
    told, began = Told(), time.perf_counter()
    try:
        yield told
    except GeneratorExit:
        raise  # whoever reads a listing may stop where it likes
    except BaseException as error:
        told.outcome = type(error).__name__
        raise
    finally:
        who = actor()
        report(
            Access(
                at=utc_now(),
                kind=kind,
                what=what,
                outcome=told.outcome,
                tenant=tenant,
                object=object,
                who=who.who,
                origin=who.origin,
                request_id=who.request_id,
                took_ms=round((time.perf_counter() - began) * 1000, 1),
                bytes=told.bytes,
                count=told.count,
            )
        )
