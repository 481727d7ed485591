"""How many events fit a question, by time: from the hourly sums where they can tell, else counted, within bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

import polars as pl

from dashboards.portal.question import Question
from dashboards.portal.scope import TenantScope
from dashboards.reports.charts import Bar
from dashboards.reports.page import HourBar
from lake import lookup as look
from lake.files import rows_by_day
from lake.reads import scan
from lake.settings import LakeSettings

MOST_COUNTED: Final = 5_000_000
"""Rows in days that are opened to be counted, and no day beyond: an answer must not wait for the whole lake."""
_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)
_WIDTHS: Final = (
    (timedelta(minutes=1), timedelta(seconds=1)),
    (timedelta(minutes=75), timedelta(minutes=1)),
    (timedelta(hours=6), timedelta(minutes=5)),
    (timedelta(days=3), _HOUR),
)
"""Up to how long a range is cut how finely; a longer one into days."""
_SUMMED: Final = frozenset({"hostname", "operation", "agent"})
"""The filters that the hourly sums know."""
_STATES: Final = ("complete", "partial", "unknown", "not_monitored")


@dataclass(frozen=True)
class Histogram:
    """Bars over the range; `counted_from`: days before it hold too much to be counted, None if all was."""

    bars: tuple[Bar, ...]
    width: timedelta
    summed: bool
    counted_from: datetime | None

    @property
    def events(self) -> int:
        """Occurrences in all bars."""
        return sum(bar.hour.events for bar in self.bars if bar.hour)


def histogram_of(scope: TenantScope, question: Question, now: datetime, lake: LakeSettings) -> Histogram:
    """Return the histogram of a question.

    What is known of a bar is what is known of its hours, of the hosts that the question is about. A day that has no
    sums is counted, and unknown in whole: nobody has looked yet whether all of it is there.
    """
    tenant, days = scope.tenant_id, (question.first_day, question.last_day)
    width = next((width for longest, width in _WIDTHS if question.last - question.first <= longest), _DAY)
    known = _known(tenant, question, lake)
    whole = all(one == _floor(one, _HOUR) for one in (question.first, question.last))
    summed = whole and width >= _HOUR and question.filters.keys() <= _SUMMED
    computed = {hour.date() for hour in known} if summed else set()
    counts: dict[datetime, int] = {}
    if computed:
        sums = scan(tenant, "activity", *days, lake).filter(
            pl.col("hour").is_between(question.first, question.last, closed="left"), *_chosen(question, "operation")
        )
        counts = _by(sums, "hour", "events", width)
    left = [one for one in _dates(*days) if one not in computed and one <= now.date()]
    counted = _countable(left, rows_by_day(tenant, "events", *days, lake)) if left else []
    if counted and question.by_path:
        # The days that are counted are the newest, without a gap.
        counts |= look.counted(tenant, replace(question.asked(), first_day=counted[-1]), width, lake)
    elif counted:
        rows = scan(tenant, "events", counted[-1], counted[0], lake).filter(*question.where())
        rows = rows.filter(pl.col("event_day").is_in(counted))
        counts |= _by(rows, "time", "count", width)
    skipped = [one for one in left if one not in counted]
    limit = None if not skipped else datetime.combine(max(skipped), time(), UTC) + _DAY
    bars = []
    for start in _starts(question, width):
        inside = question.within(start, start + width)
        blank = start > now or any(one in skipped for one in _dates(inside.first_day, inside.last_day))
        hour = None if blank else _bar(counts.get(start, 0), start, width, known)
        narrower = inside if width > timedelta(seconds=1) and inside != question else None
        bars.append(Bar(_label(start, width), hour, None if narrower is None else f"?{narrower.address()}"))
    return Histogram(tuple(bars), width, bool(computed) and not counted, limit)


def _known(tenant: str, question: Question, lake: LakeSettings) -> dict[datetime, tuple[int, ...]]:
    """Return how many hosts are in which state, by hour."""
    state = pl.col("state")
    rows = (
        scan(tenant, "completeness", question.first_day, question.last_day, lake)
        .filter(*_chosen(question))
        .group_by("hour")
        .agg((state == name).sum().alias(name) for name in _STATES)
        .collect()
    )
    return {hour: tuple(states) for hour, *states in rows.iter_rows()}


def _chosen(question: Question, *more: str) -> list[pl.Expr]:
    columns = {"hostname": "hostname", "agent": "agent_id"} | {name: name for name in more}
    return [pl.col(columns[name]) == value for name, value in question.filters.items() if name in columns]


def _by(frame: pl.LazyFrame, at: str, what: str, width: timedelta) -> dict[datetime, int]:
    found = frame.group_by(pl.col(at).dt.truncate(width).alias("start")).agg(pl.col(what).sum()).collect()
    return dict(found.iter_rows())


def _countable(days: Sequence[date], rows: dict[date, int]) -> list[date]:
    """Return the newest of the days that together hold no more rows than may be counted, the newest first."""
    fit, total = [], 0
    for day in sorted(days, reverse=True):
        total += rows.get(day, 0)
        if total > MOST_COUNTED:
            break
        fit.append(day)
    return fit


def _bar(events: int, start: datetime, width: timedelta, known: dict[datetime, tuple[int, ...]]) -> HourBar:
    hours = max(width // _HOUR, 1)
    first = _floor(start, _HOUR)
    found = [known[hour] for number in range(hours) if (hour := first + number * _HOUR) in known]
    if not found:
        return HourBar(events, 0, 0, 1, 0)
    return HourBar(events, *(sum(column) for column in zip(*found, strict=True)))


def _starts(question: Question, width: timedelta) -> list[datetime]:
    start, found = _floor(question.first, width), []
    while start < question.last:
        found.append(start)
        start += width
    return found


def _floor(when: datetime, width: timedelta) -> datetime:
    return when - (when - datetime.combine(when.date(), time(), UTC)) % width


def _dates(first: date, last: date) -> list[date]:
    return [first + number * _DAY for number in range((last - first).days + 1)]


def _label(start: datetime, width: timedelta) -> str:
    if width >= _DAY or (width == _HOUR and start.time() == time()):
        return f"{start:%m-%d}"
    return f"{start:%H:%M:%S}" if width < timedelta(minutes=1) else f"{start:%H:%M}"
