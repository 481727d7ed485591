"""Checks a day of every tenant that ever sent anything, and sets the states that gate what follows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

import polars as pl

from lake.tables import open_table
from pipelines.checks.day import measure_day
from pipelines.checks.rules import RULES, WARNINGS
from pipelines.clones import alarm_of_clones
from pipelines.passes import telling
from pipelines.progress import Progress
from pipelines.resources import Platform
from pipelines.tenant_loop import Counts, Outcome, for_each_tenant
from tenancy.database import Database
from tenancy.days import get, mark_open, set_checked
from tenancy.tenants import list_tenants

_ROUNDS: Final = 3
"""How often a day that is over is measured when data keeps coming in between; then it stays open."""


@dataclass
class Checked:
    """What the checks said: rules broken by tenant (none: passed), those that only warn, who could not be measured."""

    broken: dict[str, list[str]] = field(default_factory=dict)
    warned: dict[str, list[str]] = field(default_factory=dict)
    outcome: Outcome = field(default_factory=Outcome)
    numbers: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Each tenant's metrics row."""

    @property
    def said(self) -> dict[str, list[str]]:
        """For each tenant that was measured, every rule that it breaks, those that only warn among them."""
        return {tenant: [*rules, *self.warned.get(tenant, [])] for tenant, rules in self.broken.items()}

    @property
    def passed(self) -> list[str]:
        """Tenants that broke no rule."""
        return [tenant for tenant, rules in self.broken.items() if not rules]

    @property
    def failing(self) -> dict[str, list[str]]:
        """The others, and why."""
        broken = {tenant: rules for tenant, rules in self.broken.items() if rules}
        return broken | {tenant: ["could not be measured"] for tenant in self.outcome.failed}


def check_day(platform: Platform, db: Database, day: date, run: str, tenants: Collection[str] | None = None) -> Checked:
    """Measure, validate and set the day state of each tenant; one that moved on meanwhile is measured again.

    Args:
        platform: where the tables are.
        db: the control database.
        day: which day, UTC.
        run: who checks.
        tenants: only these; None is all.
    """
    checked = Checked()
    asked = [one.tenant_id for one in list_tenants(db) if tenants is None or one.tenant_id in tenants]
    todo = [tenant for tenant in asked if open_table(tenant, "hosts", platform.lake) is not None]
    for _ in range(_ROUNDS):
        rows: dict[str, dict[str, Any]] = {}
        versions: dict[str, int] = {}

        def measure(tenant: str, rows: Any = rows, versions: Any = versions) -> Counts:
            versions[tenant] = _version(db, tenant, day)
            with telling(Progress("check", tenant, unit="passes", day=day.isoformat())):
                measured = measure_day(platform.tables(db, tenant, f"checks {run}"), day)
            rows[tenant] = measured.row
            checked.outcome.clones.pop(tenant, None)
            if cloned := alarm_of_clones(db, tenant, measured.clones):
                checked.outcome.clones[tenant] = cloned
            return {name: value for name, value in rows[tenant].items() if name != "tenant"}

        checked.outcome.add(for_each_tenant("day_checks", todo, measure))
        found = _validate(list(rows.values()))
        broken = {tenant: [rule for rule in rules if rule not in WARNINGS] for tenant, rules in found.items()}
        checked.broken |= broken
        checked.numbers |= rows
        warned = {tenant: [rule for rule in rules if rule in WARNINGS] for tenant, rules in found.items()}
        checked.warned |= warned
        todo = []
        for tenant, rules in broken.items():
            detail = {"broken": rules, "rows": rows[tenant]["rows"], "run": run, "warned": warned[tenant]}
            detail["clones"] = checked.outcome.clones.get(tenant, [])
            if not set_checked(db, tenant, day, not rules, detail, versions[tenant]):
                todo.append(tenant)
        if not todo or day >= db.clock().date():
            break
    return checked


def _version(db: Database, tenant: str, day: date) -> int:
    """The day's version before its data is read; a day of silence gets its state now."""
    state = get(db, tenant, day)
    if state is None:
        mark_open(db, tenant, [day])
        state = get(db, tenant, day)
    return 0 if state is None else state.version


def _validate(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    if not rows:
        return {}
    from pipelines.checks.suite import validate

    schema = {"tenant": pl.String} | {rule.metric: pl.Int64 for rule in RULES}
    return validate(pl.DataFrame(rows, schema=schema))
