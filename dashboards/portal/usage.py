"""What a tenant has sent: events, hosts and bytes by UTC day and month, from what is computed and sealed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from dashboards.portal.scope import TenantScope
from lake.reads import scan
from lake.settings import LakeSettings


@dataclass(frozen=True)
class DayUse:
    """A UTC day: occurrences that landed, hosts of which any did, and bytes that they take up once sealed.

    Each is None where it is not known: nothing is computed of the day, or it is not sealed.
    """

    day: date
    events: int | None = None
    hosts: int | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class MonthUse:
    """A month: the sums of its days of which anything is known, and how many those are."""

    month: date
    days: int
    events: int
    bytes: int | None


def usage_of(
    scope: TenantScope, first: date, last: date, lake: LakeSettings, hosts_from: date | None = None
) -> list[DayUse]:
    """Return each day of a range, in order, from the rollups and the seals.

    Args:
        scope: whose.
        first: the first UTC day.
        last: the last one.
        lake: where the tables are.
        hosts_from: before this day the seals alone are asked: they are a row a day, the rollups one a host and hour.
    """
    computed: dict[date, tuple[int, int]] = {}
    start = max(first, hosts_from or first)
    arrived = pl.col("captured") > 0
    by_day = (
        scan(scope.tenant_id, "completeness", start, last, lake)
        .group_by("event_day")
        .agg(events=pl.col("captured").sum(), hosts=pl.col("agent_id").filter(arrived).n_unique())
    )
    for day, events, hosts in by_day.collect().iter_rows():
        computed[day] = (int(events), int(hosts))
    # While a day is sealed anew it has two rows; the newer is of the files that are, or will be.
    rows = scan(scope.tenant_id, "seals", first, last, lake).sort("sealed_at").select("event_day", "events", "bytes")
    sealed = {day: (int(events), int(size)) for day, events, size in rows.collect().iter_rows()}
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    return [_day(day, computed.get(day), sealed.get(day)) for day in days]


def months_of(days: Iterable[DayUse]) -> list[MonthUse]:
    """Return the months that days of which anything is known belong to, the newest first."""
    found: dict[date, list[DayUse]] = {}
    for one in days:
        if one.events is not None:
            found.setdefault(one.day.replace(day=1), []).append(one)
    return [
        MonthUse(
            month,
            len(within),
            sum(one.events or 0 for one in within),
            sum(one.bytes for one in within if one.bytes is not None) if any(one.bytes for one in within) else None,
        )
        for month, within in sorted(found.items(), reverse=True)
    ]


def _day(day: date, computed: tuple[int, int] | None, sealed: tuple[int, int] | None) -> DayUse:
    # The rollups follow what comes late; a seal is as of its moment.
    events = computed[0] if computed else sealed[0] if sealed else None
    return DayUse(day, events, computed[1] if computed else None, sealed[1] if sealed else None)
