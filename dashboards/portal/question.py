"""A question about events: a range of time and filters, as an address, an expression, and SQL that say the same."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from urllib.parse import urlencode

import polars as pl

from kaimon.base.problems import Problem
from lake.lookup import KEY, Asked, above

MOST_DAYS: Final = 31
FILTERS: Final = ("hostname", "operation", "path", "process", "user", "file", "agent", "pid")
"""`path` is how a path begins; `file` is a whole one, where a rename or link led too; all others are exact."""
SHOWN: Final = ("time", "hostname", "operation", "path", "target_path", "process", "user", "result", "count")
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY: Final = timedelta(days=1)
_CLOCK: Final = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
_PID: Final = re.compile(r"\d{1,10}")
_SPACE: Final = 32


@dataclass(frozen=True)
class Question:
    """Events of [`first`, `last`), both UTC, that fit every filter."""

    first: datetime
    last: datetime
    filters: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what is no question.

        Raises:
            ValueError: no range of at most `MOST_DAYS`, or a filter that nothing can fit.
            Problem: a filter holds what no name of ours does.
        """
        if not timedelta(0) < self.last - self.first <= MOST_DAYS * _DAY:
            raise ValueError(f"Ask for at most {MOST_DAYS} days, the first no later than the last.")
        if not _PID.fullmatch(self.filters.get("pid", "0")):
            raise ValueError("A process id is a number.")
        for value in self.filters.values():
            literal(value)

    @property
    def first_day(self) -> date:
        """The first UTC day that it touches."""
        return self.first.date()

    @property
    def last_day(self) -> date:
        """The last UTC day that it touches."""
        return (self.last - timedelta(microseconds=1)).date()

    def within(self, first: datetime, last: datetime) -> Question:
        """Return the same question about as much of another range as lies in this one."""
        return Question(max(first, self.first), min(last, self.last), self.filters)

    def address(self, **more: str) -> str:
        """Return it as an address's query; what `question_of` reads."""
        clock = {"since": self.first.time(), "until": self.last.time()}
        told = {name: f"{moment:%H:%M}" for name, moment in clock.items() if moment != time()}
        days = {"from": self.first_day.isoformat(), "day": self.last_day.isoformat()}
        return urlencode(days | told | dict(self.filters) | more)

    def where(self) -> list[pl.Expr]:
        """Return what a row of its days must fit."""
        fits = [_fits(name, value) for name, value in self.filters.items()]
        if self.first.time() != time():
            fits.append(pl.col("time") >= moment(self.first))
        if self.last.time() != time():
            fits.append(pl.col("time") < moment(self.last))
        return fits

    @property
    def by_path(self) -> bool:
        """Whether it is about a path: then what cannot hold it need not be opened."""
        return not self.filters.keys().isdisjoint({"path", "file"})

    def asked(self, after: str = "") -> Asked:
        """Return it as `lake.lookup` asks it.

        Raises:
            ValueError: `after` is no cursor.
        """
        equal: dict[str, str | int] = {
            "agent_id" if name == "agent" else name: int(value) if name == "pid" else value
            for name, value in self.filters.items()
            if name not in {"path", "file"}
        }
        return Asked(
            self.first_day,
            min(self.last_day, moment_of(after).date()) if after else self.last_day,
            begins=self.filters.get("path"),
            file=self.filters.get("file"),
            equal=equal,
            since=self.first if self.first.time() != time() else None,
            until=self.last if self.last.time() != time() else None,
            after=(moment_of(after), cursor_of(after)[1:]) if after else None,
        )

    def sql(self, most: int, after: str = "") -> str:
        """Return the query that gives the same rows as `where`, newest first, where its range bounds the tables.

        Args:
            most: rows.
            after: the cursor of the page before.
        """
        parts = [_condition(name, value) for name, value in self.filters.items()]
        if after:
            micros, agent, load, cpu, seq = cursor_of(after)
            at, names = f"make_timestamptz({micros})", ", ".join(KEY)
            values = f"{literal(agent)}, {literal(load)}, {cpu}, {seq}"
            parts.append(f"(time < {at} OR (time = {at} AND ({names}) > ({values})))")
        columns = ", ".join(f'"{name}"' for name in SHOWN)
        where = f"\nWHERE {' AND '.join(parts)}" if parts else ""
        # Everything in it is ours, a number, or a literal that `literal` closed.
        return f"SELECT {columns}\nFROM events{where}\nORDER BY time DESC, {', '.join(KEY)}\nLIMIT {most}"

    def command(self, tenant: str, sql: str) -> str:
        """Return the command that asks `sql` of this range, as a shell takes it."""
        span = [f"{one:%Y-%m-%dT%H:%M:%SZ}" for one in (self.first, self.last)]
        return shlex.join(["kaimon", "query", "--tenant", tenant, "--from", span[0], "--to", span[1], sql])


def question_of(query: Mapping[str, str], today: date) -> Question:
    """Return what an address asks: `from` and `day` are UTC days, `since` and `until` a time on each.

    Raises:
        Problem: 400, a day or a time is none.
        ValueError: what they make is no question.
    """
    day = _day(query.get("day"), today)
    first = datetime.combine(_day(query.get("from"), day), _clock(query.get("since"), time()), UTC)
    last = datetime.combine(day, time(), UTC) + _DAY
    if query.get("until"):
        last = datetime.combine(day, _clock(query["until"], time()), UTC)
    return Question(first, last, {name: query[name] for name in FILTERS if query.get(name)})


def cursor_of(text: str) -> tuple[int, str, str, int, int]:
    """Return what names a row: its time in microseconds, and its key.

    Raises:
        ValueError: it names none.
    """
    micros, agent, load, cpu, seq = text.split("~")
    found = (int(micros), agent, load, int(cpu), int(seq))
    if any(abs(number) >= 2**62 for number in (found[0], found[3], found[4])):
        raise ValueError("The page's address names no row.")
    return found


def cursor(row: Mapping[str, Any]) -> str:
    """Return what names a row, whatever else lands."""
    micros = (row["time"] - EPOCH) // timedelta(microseconds=1)
    return "~".join([str(micros), *(str(row[name]) for name in KEY)])


def moment_of(cursor: str) -> datetime:
    """Return the time of the row that a cursor names.

    Raises:
        ValueError: it names none.
    """
    try:
        return EPOCH + timedelta(microseconds=cursor_of(cursor)[0])
    except OverflowError as error:
        raise ValueError("The page's address names no time.") from error


def moment(when: datetime) -> pl.Expr:
    """Return a moment as the tables have it."""
    return pl.lit(when, pl.Datetime("us", "UTC"))


def literal(text: str) -> str:
    """Return a text as SQL's: a quote is doubled, what cannot be seen is written as its number.

    Raises:
        Problem: 400, it holds what no name of ours does.
    """
    if any(ord(letter) < _SPACE or 0xD800 <= ord(letter) < 0xE000 for letter in text):
        raise Problem(400, "bad_filter", "Not a name", "Control characters are escaped in names, as the schema says.")
    parts = [letter.replace("'", "''") if letter.isprintable() else f"' || chr({ord(letter)}) || '" for letter in text]
    quoted = f"'{''.join(parts)}'"
    return quoted if text.isprintable() else f"({quoted})"


def _day(text: str | None, otherwise: date) -> date:
    try:
        return date.fromisoformat(text) if text else otherwise
    except ValueError as error:
        raise Problem(400, "bad_day", "Not a day", "Write a day as 2026-03-04.") from error


def _clock(text: str | None, otherwise: time) -> time:
    if not text:
        return otherwise
    if not _CLOCK.fullmatch(text):
        raise Problem(400, "bad_time", "Not a time", "Write a time of the day as 09:30.")
    return time.fromisoformat(text)


def _fits(name: str, wanted: str) -> pl.Expr:
    if name == "path":
        # The bounds say no more, but in words by which statistics leave parts of a sealed day shut.
        path, upper = pl.col("path"), above(wanted)
        begins = path.str.starts_with(wanted) & (path >= wanted)
        return begins if upper is None else begins & (path < upper)
    if name == "file":
        return (pl.col("path") == wanted) | (pl.col("target_path") == wanted).fill_null(value=False)
    if name == "pid":
        return pl.col("pid") == int(wanted)
    return pl.col("agent_id" if name == "agent" else name) == wanted


def _condition(name: str, wanted: str) -> str:
    if name == "path":
        return f"starts_with(path, {literal(wanted)})"
    if name == "file":
        return f"(path = {literal(wanted)} OR target_path = {literal(wanted)})"
    if name == "pid":
        return f"pid = {int(wanted)}"
    return f'"{"agent_id" if name == "agent" else name}" = {literal(wanted)}'
