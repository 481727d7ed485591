"""The assets of the rollups, each a table's day: replaced whenever the day is closed, from its events alone."""

# No `from __future__ import annotations` here: Dagster looks at the type of `context` itself.
from collections.abc import Callable, Iterator
from datetime import date

import dagster as dg

from pipelines.check_results import check_result, check_spec
from pipelines.checks.rollups import KEYS
from pipelines.checks.rules import ROLLUP_RULES
from pipelines.day_step import GROUP, TABLES, Tenants, for_day
from pipelines.partitions import DAYS
from pipelines.resources import PlatformResource
from pipelines.rollup_checks import check_rollups
from pipelines.rollups.day import (
    roll_activity,
    roll_completeness,
    roll_new_behaviour,
    roll_processes,
    roll_sensitive,
    roll_top_paths,
    roll_users,
)
from pipelines.tables import TenantTables
from pipelines.tenant_loop import Counts


def _rollup(
    name: str, work: Callable[[TenantTables, date], Counts], description: str, after: str = "sealed_day"
) -> dg.AssetsDefinition:
    @dg.asset(
        name=name,
        ins={"tenants": dg.AssetIn(after)},
        partitions_def=DAYS,
        group_name=GROUP,
        owners=[TABLES],
        kinds={"polars"},
        description=description,
    )
    def rollup(
        context: dg.AssetExecutionContext, platform: PlatformResource, tenants: Tenants
    ) -> dg.MaterializeResult[Tenants]:
        return for_day(context, platform, tenants, work)

    return rollup


ROLLUPS = [
    _rollup("activity", roll_activity, "Hour by host by operation."),
    _rollup(
        "completeness",
        roll_completeness,
        "Host by hour: seen, captured, filtered, lost by cause, unaccounted, and the verdict.",
    ),
    _rollup("top_paths", roll_top_paths, "The paths that most happened to, by rank."),
    _rollup("processes", roll_processes, "What each program did on each host."),
    _rollup("users", roll_users, "What each user did on each host."),
    _rollup("sensitive", roll_sensitive, "Who touched credentials and keys: host, program, file."),
    _rollup(
        "new_behaviour",
        roll_new_behaviour,
        "Those of `sensitive` that are new: host, program and file were not together in the 28 days before.",
        after="sensitive",
    ),
]


@dg.asset(
    ins={table: dg.AssetIn(table) for table in KEYS},
    partitions_def=DAYS,
    group_name=GROUP,
    owners=[TABLES],
    kinds={"greatexpectations", "polars"},
    check_specs=[check_spec("rollup_checks", ROLLUP_RULES)],
    description="Each tenant's rollups against the day's events. Where they are wrong the day has failed, and nothing "
    "is told of it.",
)
def rollup_checks(
    context: dg.AssetExecutionContext, platform: PlatformResource, **rolled: Tenants
) -> Iterator[dg.Output[Tenants] | dg.AssetCheckResult]:
    day = date.fromisoformat(context.partition_key)
    ready = sorted(set.intersection(*(set(tenants) for tenants in rolled.values())))
    with platform.step(context) as db:
        checked = check_rollups(platform, db, day, context.run.run_id, ready)
        checked.outcome.raise_if_all_failed()
    yield dg.Output(checked.passed, metadata=checked.outcome.metadata())
    yield check_result(checked, day, ROLLUP_RULES)
