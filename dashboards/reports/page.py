"""What a rendered summary is made of; plain data, so that rendering needs nothing but this."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Final, Literal

Status = Literal["first", "better", "stable", "worse"]
HOST_HOUR: Final = "A host-hour is one host in one hour"
"""What stands below a page, for who reads one for the first time."""


@dataclass(frozen=True)
class Part:
    """A run of a sentence: our words, a computed value, or a name that somebody else chose."""

    kind: Literal["text", "value", "name"]
    text: str


Sentence = tuple[Part, ...]


@dataclass(frozen=True)
class Block:
    """A titled group of sentences; the account and the blind spots stand below the one that asks for them."""

    title: str
    sentences: tuple[Sentence, ...]
    with_account: bool = False


@dataclass(frozen=True)
class Figure:
    """A number that stands by itself, with what it is and how it compares; `alert` draws the eye."""

    label: str
    value: str
    note: str
    alert: bool = False


@dataclass(frozen=True)
class HourBar:
    """One hour of the chart: events, and hosts by what is known of them. `None` for an hour that has not begun."""

    events: int
    complete: int
    partial: int
    unknown: int
    not_monitored: int


@dataclass(frozen=True)
class Ranked:
    """A line of a ranking: a name that somebody else chose, its events as shown, and its share from 0 to 1."""

    name: str
    events: str
    share: float


@dataclass(frozen=True)
class Ranking:
    """The busiest of a kind."""

    title: str
    rows: tuple[Ranked, ...]


@dataclass(frozen=True)
class Change:
    """A value that a new revision changed."""

    label: str
    before: str
    after: str


@dataclass(frozen=True)
class Matter:
    """One thing that matters: how grave, whether it is new, what, who, and why; `who` may hold names."""

    severity: str
    state: str
    title: str
    who: Sentence
    why: str


@dataclass(frozen=True)
class Page:
    """A summary, ready to be rendered."""

    tenant: str
    day: date
    revision: int
    provisional: bool
    as_of: str | None
    status: Status
    status_rule: str
    headline: Sentence
    figures: tuple[Figure, ...]
    hours: tuple[HourBar | None, ...]
    blocks: tuple[Block, ...]
    rankings: tuple[Ranking, ...]
    accounting: str
    blind_spots: tuple[str, ...]
    changes: tuple[Change, ...]
    further_changes: int
    written_by: str
    facts_digest: str
    method: str
    matters: tuple[Matter, ...] = ()
    period: Literal["day", "week"] = "day"

    @property
    def status_word(self) -> str:
        """The status as people read it."""
        return {"first": f"First {self.period}", "better": "Better", "stable": "Stable", "worse": "Worse"}[self.status]

    @property
    def short_name(self) -> str:
        """The period in a subject or a file's name: `2026-03-04`, or `2026-W10`, which no day is called."""
        if self.period == "day":
            return self.day.isoformat()
        year, week, _ = self.day.isocalendar()
        return f"{year}-W{week:02}"

    @property
    def account_title(self) -> str:
        """What stands before the account's equation."""
        return f"The {self.period}'s account, by when each batch was cut"

    @property
    def chart_title(self) -> str:
        """What the chart's bars are; a week's has the same hour of its days in one bar."""
        return "Events an hour" if self.period == "day" else "Events by hour of the day, over the week"
