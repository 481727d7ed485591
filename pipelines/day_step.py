"""One step of a day: the same work for every tenant whose gate is open, each tenant's error held apart."""

# No `from __future__ import annotations` here: Dagster looks at the type of `context` itself.
from collections.abc import Callable, Iterable
from datetime import date

import dagster as dg

from pipelines.gate import admit
from pipelines.resources import Platform
from pipelines.tables import TenantTables
from pipelines.tenant_loop import Counts, for_each_tenant

GROUP = "file_activity"
"""One group, so that the graph shows whole at a glance."""
LANDING, TABLES, REPORTS = "team:landing", "team:tables", "team:reports"
"""Who looks after an asset: those who get data in and out, those who derive tables from it, those who tell people."""
Tenants = list[str]
"""What a day's assets hand on: the tenants they are done for."""


def for_day(
    context: dg.AssetExecutionContext,
    platform: Platform,
    tenants: Iterable[str],
    work: Callable[[TenantTables, date], Counts],
) -> dg.MaterializeResult[Tenants]:
    """Do one step of a day for every tenant whose gate is open; hand on those that it is done for."""
    day, step = date.fromisoformat(context.partition_key), context.asset_key.to_user_string()
    with platform.step(context) as db:

        def one(tenant: str) -> Counts:
            admit(db, tenant, day)
            return work(platform.tables(db, tenant, f"{step} {context.run.run_id}"), day)

        outcome = for_each_tenant(step, tenants, one)
        outcome.raise_if_all_failed()
    return dg.MaterializeResult(value=sorted(outcome.done), metadata=outcome.metadata())
