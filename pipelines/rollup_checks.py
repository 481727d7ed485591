"""Checks what was computed of a day, for each tenant whose day has passed, and closes the gate where it is wrong."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Any, Final

import polars as pl

from pipelines.checks.rollups import KEYS, rollup_metrics, totals_of
from pipelines.checks.rules import ROLLUP_RULES
from pipelines.day_checks import Checked
from pipelines.gate import admit
from pipelines.resources import Platform
from pipelines.tables import TenantTables
from pipelines.tenant_loop import Counts, for_each_tenant
from tenancy.database import Database
from tenancy.days import DayState, get, set_checked

_MOVING: Final = {f"{table}_difference": 0 for table in KEYS}


def check_rollups(platform: Platform, db: Database, day: date, run: str, tenants: Iterable[str]) -> Checked:
    """Measure and validate the rollups of each tenant; a day whose rollups are wrong is a failed one.

    A tenant to which data came since the day's checks is skipped: its rollups are of what was there before. While the
    day runs they are all the same looked at, but for their sums.

    Args:
        platform: where the tables are.
        db: the control database.
        day: which day, UTC.
        run: who checks.
        tenants: those whose rollups are done.
    """
    checked = Checked()
    states: dict[str, DayState | None] = {}

    def measure(tenant: str) -> Counts:
        tables = platform.tables(db, tenant, f"rollup checks {run}")
        measured = measure_rollups(tables, day)
        # Read after the tables: who lands opens the day first, so that of a passed one these are the events checked.
        admit(db, tenant, day)
        states[tenant] = state = get(db, tenant, day)
        if state is None or state.state != "passed":
            measured |= {name: 0 for name in _MOVING if name in measured}
        checked.numbers[tenant] = {"tenant": tenant, **measured}
        return measured

    checked.outcome = for_each_tenant("rollup_checks", tenants, measure)
    checked.broken = _validate([checked.numbers[tenant] for tenant in checked.outcome.done])
    for tenant, rules in checked.broken.items():
        state = states[tenant]
        if rules and state is not None:
            set_checked(db, tenant, day, False, state.detail | {"broken": rules, "run": run}, state.version)
    return checked


def measure_rollups(tables: TenantTables, day: date) -> dict[str, int]:
    """Return one number a rule of `pipelines.checks.rules.ROLLUP_RULES`, those that could be computed."""
    snapshot = tables.snapshot("events", *KEYS)
    totals, touched = totals_of(snapshot.scan("events", day, day)), snapshot.scan("sensitive", day, day).collect()
    measured: dict[str, int] = {}
    for table in KEYS:
        measured |= rollup_metrics(table, snapshot.scan(table, day, day), day, totals, touched)
    return measured


def _validate(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    if not rows:
        return {}
    from pipelines.checks.suite import validate

    schema = {"tenant": pl.String} | {rule.metric: pl.Int64 for rule in ROLLUP_RULES}
    return validate(pl.DataFrame(rows, schema=schema), ROLLUP_RULES)
