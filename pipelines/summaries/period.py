"""What a summary is about: one UTC day, or a week from Monday to Sunday UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

_LENGTHS = {"day": 1, "week": 7}


@dataclass(frozen=True)
class Period:
    """A day or a week; `start` is its first day."""

    kind: Literal["day", "week"]
    start: date

    @property
    def days(self) -> int:
        """How many days it has."""
        return _LENGTHS[self.kind]

    @property
    def last(self) -> date:
        """Its last day."""
        return self.start + timedelta(days=self.days - 1)

    @property
    def name(self) -> str:
        """What a person calls it, as `parse_period` takes it: `2026-03-04`, or `2026-W10`."""
        if self.kind == "day":
            return self.start.isoformat()
        year, week, _ = self.start.isocalendar()
        return f"{year}-W{week:02}"

    @property
    def before(self) -> Period:
        """The period before."""
        return Period(self.kind, self.start - timedelta(days=self.days))


def week_of(day: date) -> Period:
    """Return the week that a day is in."""
    return Period("week", day - timedelta(days=day.weekday()))


def parse_period(text: str) -> Period:
    """Return the period that a person names: `2026-03-04`, or the ISO week `2026-W10`.

    Raises:
        ValueError: it is neither.
    """
    try:
        if "W" in text:
            year, _, week = text.partition("-W")
            return Period("week", date.fromisocalendar(int(year), int(week), 1))
        return Period("day", date.fromisoformat(text))
    except ValueError as error:
        raise ValueError(f"period {text!r}: want a UTC day as 2026-03-04, or a week as 2026-W10") from error
