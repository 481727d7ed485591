"""One request of a program that has shown its key: what it may use, its pages, and its conditions."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any, Final

from fastapi import Depends, Query, Request
from pydantic import BaseModel

from dashboards.portal.api.models import Item, Page
from dashboards.portal.scope import TenantScope
from kaimon.base.problems import Problem
from lake.settings import LakeSettings
from tenancy.api_keys import ApiKey
from tenancy.database import Database

MOST_ITEMS: Final = 500
_YEARS: Final = range(2000, 2100)
_TAG_LETTERS: Final = 32
_WAIT_S: Final = 10.0


class Turns:
    """How many queries run at once: each may take as much memory as a query may."""

    def __init__(self, most: int) -> None:
        """Let `most` run."""
        self._free = threading.BoundedSemaphore(most)

    @contextmanager
    def one(self) -> Iterator[None]:
        """Wait for a turn, not for long.

        Raises:
            Problem: 503.
        """
        if not self._free.acquire(timeout=_WAIT_S):
            raise Problem(503, "busy", "Too many queries at once", "Try again.", {"Retry-After": "5"})
        try:
            yield
        finally:
            self._free.release()


@dataclass(frozen=True)
class ApiCall:
    """What a route may use: `scope` is the only way to a tenant's data."""

    db: Database
    lake: LakeSettings
    scope: TenantScope
    key: ApiKey
    now: datetime
    if_match: str | None
    turns: Turns

    def require_match(self, current: BaseModel) -> None:
        """Refuse a change of what is not any more as the caller saw it.

        Raises:
            Problem: 412.
        """
        if self.if_match is None:
            return
        tags = [tag.strip() for tag in self.if_match.split(",")]
        if "*" not in tags and etag(current) not in tags:
            raise Problem(412, "changed_meanwhile", "It has changed", "Read it again and send its ETag as If-Match.")


def call_of(request: Request) -> ApiCall:
    """Return the call that the edge made of this request."""
    call: ApiCall = request.scope["kaimon_call"]
    return call


Asked = Annotated[ApiCall, Depends(call_of)]
Limit = Annotated[int, Query(ge=1, le=MOST_ITEMS, description="How many items at most.")]
Cursor = Annotated[str | None, Query(max_length=2000, description="`next` of the page before.")]


@dataclass(frozen=True)
class ApiRoute:
    """A route below `/api/v1`: what a key must be allowed (None: nothing), and what it does.

    `conditional` takes If-Match; a POST takes Idempotency-Key.
    """

    method: str
    path: str
    scope: str | None
    answer: Callable[..., Any]
    status: int = 200
    conditional: bool = False


def not_found() -> Problem:
    """Return the answer to an id that is not the tenant's, whether or not it is another's."""
    return Problem(404, "not_found", "Not found")


def etag(value: BaseModel) -> str:
    """Return a strong entity tag: it differs if anything of the answer does."""
    return f'"{hashlib.sha256(value.model_dump_json().encode()).hexdigest()[:_TAG_LETTERS]}"'


def day_or_today(day: date | None, now: datetime) -> date:
    """Return the UTC day that is asked for.

    Raises:
        Problem: 400, it is out of range.
    """
    if day is not None and day.year not in _YEARS:
        raise Problem(400, "bad_day", "Not a day that there is data of", "Want a year from 2000 to 2099.")
    return day or now.astimezone(UTC).date()


def moment_in_range(moment: datetime) -> datetime:
    """Return a moment in UTC.

    Raises:
        Problem: 400, it has no time zone or is out of range.
    """
    if moment.tzinfo is None or moment.year not in _YEARS:
        raise Problem(400, "bad_moment", "Not a moment", "Want RFC 3339 with a time zone, from 2000 to 2099.")
    return moment.astimezone(UTC)


def write_cursor(asked: Sequence[object], after: Sequence[object]) -> str:
    """Return where a page ended, bound to what was asked: it goes on with nothing else."""
    text = json.dumps([_print_of(asked), *after], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(asked: Sequence[object], cursor: str, count: int) -> list[Any]:
    """Return where a page ended: `count` values.

    Raises:
        Problem: 400, it is no cursor or another question's.
    """
    try:
        found = json.loads(base64.urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4)))
    except ValueError as error:
        raise bad_cursor() from error
    if not isinstance(found, list) or len(found) != count + 1 or found[0] != _print_of(asked):
        raise bad_cursor()
    return found[1:]


def bad_cursor() -> Problem:
    """Return the refusal of a cursor."""
    return Problem(400, "bad_cursor", "Not a cursor of this question", "Send what `next` said, with the same filters.")


def page_of(
    items: Sequence[Item], id_of: Callable[[Item], str], asked: Sequence[object], cursor: str | None, limit: int
) -> Page[Item]:
    """Return the items after the one that the cursor names.

    Raises:
        Problem: 400, no cursor; 410, what it names is not there any more.
    """
    start = 0
    if cursor is not None:
        (last,) = read_cursor(asked, cursor, 1)
        places = [place for place, item in enumerate(items) if id_of(item) == last]
        if not places:
            raise Problem(410, "cursor_gone", "The page before is gone", "Begin again without a cursor.")
        start = places[0] + 1
    found = list(items[start : start + limit])
    more = start + limit < len(items)
    return Page(items=found, next=write_cursor(asked, [id_of(found[-1])]) if more else None)


def _print_of(asked: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps([str(part) for part in asked]).encode()).hexdigest()[:16]
