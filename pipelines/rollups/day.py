"""A tenant's day rolled up: each rollup computed from a snapshot and replaced in its table."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Final

import polars as pl

from pipelines.ledger_window import read_window
from pipelines.passes import telling
from pipelines.progress import Progress
from pipelines.rollups.activity import activity
from pipelines.rollups.actors import processes, top_paths, users
from pipelines.rollups.completeness import arrivals, completeness
from pipelines.rollups.sensitive import DAYS, new_behaviour, sensitive
from pipelines.tables import TenantTables
from pipelines.tenant_loop import Counts


def roll_activity(tables: TenantTables, day: date) -> Counts:
    """Replace a day of `activity`."""
    with telling(Progress("roll", tables.tenant, unit="passes", table="activity", day=day.isoformat())):
        rolled = activity(tables.snapshot("events").scan("events", day, day))
    tables.replace_day("activity", rolled, day)
    return {"rows": rolled.height, "events": int(rolled["events"].sum()), "hosts": rolled["agent_id"].n_unique()}


def roll_completeness(tables: TenantTables, day: date) -> Counts:
    """Replace a day of `completeness`."""
    snapshot = tables.snapshot("events", "batches", "quarantine", "hosts")
    window = read_window(snapshot, day)
    arrived = arrivals(window.events(snapshot), window.quarantine(snapshot))
    rolled = completeness(window.around, arrived, day, tables.db.clock())
    tables.replace_day("completeness", rolled, day)
    states = dict(rolled.group_by("state").len().iter_rows())
    return {
        "host_hours": rolled.height,
        **{f"{state}_hours": int(states.get(state, 0)) for state in ("complete", "partial", "unknown")},
        "lost": int(
            rolled.select(column for column in rolled.columns if column.startswith("lost_")).sum_horizontal().sum()
        ),
        "unaccounted": int(rolled["unaccounted"].sum()),
    }


def roll_top_paths(tables: TenantTables, day: date) -> Counts:
    """Replace a day of `top_paths`."""
    return _roll(tables, "top_paths", top_paths, day)


def roll_processes(tables: TenantTables, day: date) -> Counts:
    """Replace a day of `processes`."""
    return _roll(tables, "processes", processes, day)


def roll_users(tables: TenantTables, day: date) -> Counts:
    """Replace a day of `users`."""
    return _roll(tables, "users", users, day)


def roll_sensitive(tables: TenantTables, day: date) -> Counts:
    """Replace a day of `sensitive`."""
    return _roll(tables, "sensitive", sensitive, day)


def roll_new_behaviour(tables: TenantTables, day: date) -> Counts:
    """Replace a day of `new_behaviour`, which rests on `sensitive` of that day and of those before."""
    touched = tables.snapshot("sensitive")
    before = touched.scan("sensitive", day - timedelta(days=DAYS), day - timedelta(days=1))
    rolled = new_behaviour(touched.scan("sensitive", day, day), before, day)
    tables.replace_day("new_behaviour", rolled, day)
    return {"rows": rolled.height, "events": int(rolled["events"].sum())}


def _roll(tables: TenantTables, table: str, rollup: Callable[[pl.LazyFrame], pl.DataFrame], day: date) -> Counts:
    with telling(Progress("roll", tables.tenant, unit="passes", table=table, day=day.isoformat())):
        rolled = rollup(tables.snapshot("events").scan("events", day, day))
    tables.replace_day(table, rolled, day)
    return {"rows": rolled.height, "events": int(rolled["events"].sum())}


ALL: Final[dict[str, Callable[[TenantTables, date], Counts]]] = {
    "activity": roll_activity,
    "completeness": roll_completeness,
    "top_paths": roll_top_paths,
    "processes": roll_processes,
    "users": roll_users,
    "sensitive": roll_sensitive,
    "new_behaviour": roll_new_behaviour,
}
"""Every rollup by its table, each after those that it rests on."""
