"""The assets: what is staged, what landed, and what becomes of a day. Thin: the work is in the modules they call."""

# No `from __future__ import annotations` here: Dagster looks at the type of `context` itself.
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from typing import Any

import dagster as dg
import polars as pl

from pipelines.checks.day import day_metrics
from pipelines.checks.rules import RULES
from pipelines.drain import drain
from pipelines.gate import admit
from pipelines.partitions import DAYS
from pipelines.resources import Platform
from pipelines.rollups.day import roll_activity, roll_completeness
from pipelines.summaries.day import deliver, make_facts, write_summary
from pipelines.summaries.template import TemplateWriter
from pipelines.tables import TenantTables
from pipelines.tenant_loop import Counts, Outcome, for_each_tenant
from tenancy.database import Database
from tenancy.days import get, mark_open, set_checked
from tenancy.hints import all_hints
from tenancy.tenants import list_tenants

CHECK = "complete_and_valid"
Tenants = list[str]
"""What a day's assets hand on: the tenants they are done for."""


@dg.observable_source_asset(group_name="landing", description="Segments that ingest staged and nobody has landed yet.")
def staged_segments(platform: Platform) -> dg.DataVersion:
    """Tell what the hints say: the newest segment of every node that is still waiting."""
    with platform.database() as db:
        return dg.DataVersion(";".join(f"{hint.tenant_id}/{hint.node}/{hint.seq}" for hint in all_hints(db)) or "none")


@dg.asset(
    deps=[staged_segments],
    group_name="landing",
    kinds={"deltalake", "polars"},
    description="Events, ledger, quarantine and hosts. A run drains: it lands whatever day the data is of, so this "
    "asset has no partitions; the day of each row is a partition of the Delta table.",
)
def events(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult[None]:
    with platform.database() as db:
        outcome = drain(db, f"landing {context.run_id}", platform.lake, platform.settings)
    outcome.raise_if_all_failed()
    return dg.MaterializeResult(metadata=outcome.metadata())


@dg.asset(
    deps=[events],
    partitions_def=DAYS,
    group_name="checks",
    kinds={"greatexpectations", "polars"},
    check_specs=[
        dg.AssetCheckSpec(
            CHECK,
            asset="day_checks",
            blocking=True,
            description="Great Expectations over one metrics row a tenant: " + "; ".join(rule.why for rule in RULES),
        )
    ],
    description="Each tenant's day against the rules; the result is its day state, which gates all that follows.",
)
def day_checks(
    context: dg.AssetExecutionContext, platform: Platform
) -> Iterator[dg.Output[Tenants] | dg.AssetCheckResult]:
    day = date.fromisoformat(context.partition_key)
    with platform.database() as db:
        rows: dict[str, dict[str, Any]] = {}
        versions: dict[str, int] = {}

        def measure(tenant: str) -> Counts:
            versions[tenant] = _version(db, tenant, day)
            rows[tenant] = day_metrics(platform.tables(db, tenant, f"checks {context.run_id}"), day)
            return {name: value for name, value in rows[tenant].items() if name != "tenant"}

        outcome = for_each_tenant("day_checks", _with_hosts(platform, db), measure)
        broken = _validate(list(rows.values()))
        for tenant, rules in broken.items():
            detail = {"broken": rules, "rows": rows[tenant]["rows"], "run": context.run_id}
            set_checked(db, tenant, day, not rules, detail, versions[tenant])
    outcome.raise_if_all_failed()
    passed = [tenant for tenant, rules in broken.items() if not rules]
    yield dg.Output(passed, metadata=outcome.metadata())
    yield _check_result(passed, broken, outcome)


def _check_result(passed: Tenants, broken: dict[str, list[str]], outcome: Outcome) -> dg.AssetCheckResult:
    """A failed tenant is a warning, which its day state acts upon; only when all fail is it an error that blocks."""
    failing = {tenant: rules for tenant, rules in broken.items() if rules} | {
        tenant: ["could not be measured"] for tenant in outcome.failed
    }
    some = dg.AssetCheckSeverity.WARN if passed else dg.AssetCheckSeverity.ERROR
    return dg.AssetCheckResult(
        check_name=CHECK,
        passed=not failing,
        severity=some,
        metadata={
            "tenants_passed": len(passed),
            "tenants_failed": len(failing),
            "broken": dg.MetadataValue.json(failing),
        },
    )


def _validate(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    if not rows:
        return {}
    from pipelines.checks.suite import validate

    schema = {"tenant": pl.String, "rows": pl.Int64} | {rule.metric: pl.Int64 for rule in RULES}
    return validate(pl.DataFrame(rows, schema=schema))


def _version(db: Database, tenant: str, day: date) -> int:
    """The day's version before its data is read; a day of silence gets its state now."""
    state = get(db, tenant, day)
    if state is None:
        mark_open(db, tenant, [day])
        state = get(db, tenant, day)
    return 0 if state is None else state.version


def _with_hosts(platform: Platform, db: Database) -> Iterable[str]:
    from lake.tables import open_table

    return [one.tenant_id for one in list_tenants(db) if open_table(one.tenant_id, "hosts", platform.lake) is not None]


def _for_day(
    context: dg.AssetExecutionContext,
    platform: Platform,
    tenants: Iterable[str],
    work: Callable[[TenantTables, date], Counts],
) -> dg.MaterializeResult[Tenants]:
    """Do one step of a day for every tenant whose gate is open; hand on those that it is done for."""
    day, step = date.fromisoformat(context.partition_key), context.asset_key.to_user_string()
    with platform.database() as db:

        def one(tenant: str) -> Counts:
            admit(db, tenant, day)
            return work(platform.tables(db, tenant, f"{step} {context.run_id}"), day)

        outcome = for_each_tenant(step, tenants, one)
    outcome.raise_if_all_failed()
    return dg.MaterializeResult(value=sorted(outcome.done), metadata=outcome.metadata())


@dg.asset(partitions_def=DAYS, group_name="rollups", kinds={"polars"}, description="Hour by host by operation.")
def activity(
    context: dg.AssetExecutionContext, platform: Platform, day_checks: Tenants
) -> dg.MaterializeResult[Tenants]:
    return _for_day(context, platform, day_checks, roll_activity)


@dg.asset(
    partitions_def=DAYS,
    group_name="rollups",
    kinds={"polars"},
    description="Host by hour: seen, captured, filtered, lost by cause, unaccounted, and the verdict.",
)
def completeness(
    context: dg.AssetExecutionContext, platform: Platform, day_checks: Tenants
) -> dg.MaterializeResult[Tenants]:
    return _for_day(context, platform, day_checks, roll_completeness)


@dg.asset(
    partitions_def=DAYS,
    group_name="summaries",
    description="Everything that a summary may say: values with units, previous values and the SQL that gives them.",
)
def facts(
    context: dg.AssetExecutionContext, platform: Platform, activity: Tenants, completeness: Tenants
) -> dg.MaterializeResult[Tenants]:
    return _for_day(context, platform, sorted(set(activity) & set(completeness)), make_facts)


@dg.asset(
    partitions_def=DAYS,
    group_name="summaries",
    description="The facts in words; a new revision whenever the facts have changed.",
)
def executive_summary(
    context: dg.AssetExecutionContext, platform: Platform, facts: Tenants
) -> dg.MaterializeResult[Tenants]:
    writer = TemplateWriter()
    return _for_day(context, platform, facts, lambda tables, day: write_summary(tables, day, writer))


@dg.asset(
    partitions_def=DAYS,
    group_name="summaries",
    description="Each revision as an HTML page in the outbox, once.",
)
def delivery(
    context: dg.AssetExecutionContext, platform: Platform, executive_summary: Tenants
) -> dg.MaterializeResult[Tenants]:
    folder = platform.settings.outbox_path
    return _for_day(context, platform, executive_summary, lambda tables, day: deliver(tables, day, folder))


ASSETS: list[dg.AssetsDefinition | dg.SourceAsset] = [
    staged_segments,
    events,
    day_checks,
    activity,
    completeness,
    facts,
    executive_summary,
    delivery,
]
