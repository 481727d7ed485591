"""A tenant's day rolled up: `activity` and `completeness` computed from a snapshot and replaced in their tables."""

from __future__ import annotations

from datetime import date

from pipelines.ledger_window import read_window
from pipelines.rollups.activity import activity
from pipelines.rollups.completeness import arrivals, completeness
from pipelines.tables import TenantTables
from pipelines.tenant_loop import Counts


def roll_activity(tables: TenantTables, day: date) -> Counts:
    """Replace a day of `activity`."""
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
