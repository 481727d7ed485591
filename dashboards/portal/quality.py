"""How complete a tenant's data is: host by hour, what was set apart or sent twice, and what the checks said."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

import polars as pl
from starlette.responses import Response

from dashboards.portal.call import Call, Route, day_asked
from dashboards.portal.scope import TenantScope
from lake.columns import CAUSES
from lake.quarantined import still_there
from lake.reads import scan
from lake.settings import LakeSettings
from tenancy import days, watermarks
from tenancy.database import Database
from tenancy.days import DayState
from tenancy.watermarks import Watermark

MOST_HOSTS: Final = 200
MARKS: Final = {"complete": "●", "partial": "◐", "unknown": "?", "not_monitored": "·"}
"""How an hour's state shows where colour does not."""


@dataclass(frozen=True)
class HostHours:
    """One host's day: 24 states (None for an hour that is not computed), and what was lost or is unaccounted."""

    hostname: str
    agent_id: str
    states: tuple[str | None, ...]
    lost: int
    unaccounted: int


@dataclass(frozen=True)
class Arrivals:
    """What arrived on a day: batches by what became of them, rejected lines, what is in quarantine by reason.

    `late` are the rows of batches that hold nothing of the day itself.
    """

    outcomes: dict[str, int]
    rejected: int
    late: int
    quarantined: dict[str, int]


def hours_of(scope: TenantScope, day: date, lake: LakeSettings) -> list[HostHours]:
    """Return what is known of each host's hours of a UTC day, hosts with gaps first; at most `MOST_HOSTS`."""
    lost = pl.sum_horizontal(f"lost_{cause}" for cause in CAUSES)
    rows = scan(scope.tenant_id, "completeness", day, day, lake).select(
        "agent_id", "hostname", "state", "unaccounted", hour=pl.col("hour").dt.hour(), lost=lost
    )
    found: list[HostHours] = []
    by_host = rows.collect().partition_by("agent_id", as_dict=True, maintain_order=True)
    for (agent_id,), frame in by_host.items():
        states: list[str | None] = [None] * 24
        for hour, state in frame.select("hour", "state").iter_rows():
            states[hour] = state
        name = str(frame["hostname"][-1])
        found.append(
            HostHours(name, str(agent_id), tuple(states), int(frame["lost"].sum()), int(frame["unaccounted"].sum()))
        )
    worth = {"unknown": 0, "partial": 1}
    found.sort(key=lambda one: (min((worth.get(state or "", 2) for state in one.states), default=2), one.hostname))
    return found[:MOST_HOSTS]


def arrivals_of(scope: TenantScope, day: date, lake: LakeSettings) -> Arrivals:
    """Return what arrived on a UTC day, from the ledger and the quarantine."""
    ledger = scan(scope.tenant_id, "batches", day, day, lake)
    outcomes = ledger.group_by("outcome").agg(pl.len()).sort("outcome").collect()
    landed = ledger.filter(pl.col("outcome") == "landed")
    sums = landed.select(
        rejected=pl.col("rejected").sum(), late=pl.col("rows").filter(pl.col("last_time").dt.date() < day).sum()
    )
    numbers = sums.collect().row(0, named=True)
    lines = scan(scope.tenant_id, "quarantine", day, day, lake)
    codes = still_there(lines).group_by("code").agg(pl.len()).sort("code").collect()
    return Arrivals(dict(outcomes.iter_rows()), int(numbers["rejected"]), int(numbers["late"]), dict(codes.iter_rows()))


def checks_of(db: Database, scope: TenantScope, last: date) -> list[DayState]:
    """Return what the checks said of the two weeks up to a day, the newest first."""
    first = last - timedelta(days=13)
    mine = [one for one in days.list_days(db, scope.tenant_id) if first <= one.day <= last]
    return sorted(mine, key=lambda one: one.day, reverse=True)


def freshness_of(db: Database, scope: TenantScope) -> Watermark | None:
    """Return how far landing has come, None if nothing has landed."""
    return watermarks.watermark_of(db, scope.tenant_id)


def reasons(state: DayState) -> str:
    """Return why a day failed its checks, in the rules' names."""
    said: Any = state.detail.get("failed") or state.detail.get("broken") or state.detail
    return ", ".join(sorted(said)) if said else ""


def quality(call: Call) -> Response:
    """Show how complete a day is, host by hour, and what the checks said."""
    day = day_asked(call)
    return call.page(
        "quality.html",
        day=day,
        hosts=hours_of(call.scope, day, call.lake),
        arrived=arrivals_of(call.scope, day, call.lake),
        checks=checks_of(call.db, call.scope, call.now.date()),
        reasons=reasons,
        mark=freshness_of(call.db, call.scope),
        marks=MARKS,
        before=day - timedelta(days=1),
        after=day + timedelta(days=1) if day < call.now.date() else None,
    )


ROUTES: Final = (Route("GET", "quality", "member", quality),)
