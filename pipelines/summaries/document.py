"""The facts document: what a summary rests on, versioned, canonical and small enough to read."""

from __future__ import annotations

import hashlib
from typing import Final, Literal

import msgspec

VERSION: Final = "4"
"""Form of the document and method of its values; changes when either does."""

Status = Literal["first", "better", "stable", "worse"]
Unit = Literal[
    "events", "rows", "hosts", "host-hours", "paths", "percent", "lines", "kinds", "findings", "days", "moment", "acts"
]


class Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One computed value.

    `value` is null where it cannot be known, never 0. `previous` is the same value of the period before, null if
    there is none. `display` is how people read it. `sql` gives `value` again over the tenant's own tables. A `moment`
    is in seconds since 1970 UTC.
    """

    id: str
    label: str
    value: int | float | None
    unit: Unit
    previous: int | float | None
    display: str
    sql: str


class Entity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A name that somebody else chose, under an alias that we chose; only rendering ever looks at `name`."""

    id: str
    kind: Literal["process", "user", "host", "program"]
    name: str


class Matter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing that matters: a rule with open findings.

    `title`, `why` and `advice` are the rule's own words; `who` is a sentence of ours with placeholders. All of it is
    rendered as it is, above whatever a writer says.
    """

    id: str
    rule: str
    severity: Literal["low", "medium", "high", "critical"]
    state: Literal["opened", "ongoing", "quiet"]
    title: str
    who: str
    why: str
    advice: str


class Hour(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One hour of the day: events, and hosts by the state of what is known of them; later hours are left out."""

    hour: int
    events: int
    complete: int
    partial: int
    unknown: int
    not_monitored: int


class Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that a summary may say; the writer adds words, never values."""

    version: str
    tenant: str
    period: Literal["day", "week"]
    period_start: str
    provisional: bool
    as_of: str | None
    status: Status
    status_rule: str
    values: dict[str, Value]
    entities: dict[str, Entity]
    processes: list[str]
    users: list[str]
    blind_spots: list[str]
    hours: list[Hour]
    must_mention: list[str]
    accounting: str
    matters: list[Matter] = []
    decisions: list[str] = []


def canonical(facts: Facts) -> str:
    """Return the document as canonical JSON: sorted keys, no spaces; equal facts give equal text."""
    return msgspec.json.encode(facts, order="sorted").decode()


def digest(document: str) -> str:
    """Return the SHA-256 of a document, hex."""
    return hashlib.sha256(document.encode()).hexdigest()


def parse(document: str) -> Facts:
    """Return the facts of a stored document.

    Raises:
        msgspec.ValidationError: it is not of this version's form.
    """
    return msgspec.json.decode(document, type=Facts, strict=True)
