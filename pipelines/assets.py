"""The assets: what is staged, what landed, and what becomes of a day. Thin: the work is in the modules they call."""

# No `from __future__ import annotations` here: Dagster looks at the type of `context` itself.
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import dagster as dg

from pipelines.check_results import check_result, check_spec
from pipelines.checks.rules import RULES
from pipelines.day_checks import check_day
from pipelines.day_step import GROUP, LANDING, REPORTS, TABLES, Tenants, for_day
from pipelines.drain import SUCCESSOR, SUCCESSOR_PATIENCE_S, drain, draining
from pipelines.findings.day import make_findings
from pipelines.freshness import look
from pipelines.partitions import DAYS
from pipelines.resources import PlatformResource
from pipelines.rollup_assets import ROLLUPS, rollup_checks
from pipelines.sealed_day import sealed_day
from pipelines.settings import AlertSettings
from pipelines.summaries.day import deliver, is_due, make_facts, write_summary
from pipelines.summaries.period import Period, week_of
from pipelines.summaries.wording import writer_for
from pipelines.tables import TenantTables
from pipelines.tenant_loop import Counts
from tenancy.database import Database
from tenancy.hints import all_hints
from tenancy.leases import LeaseHeldError

FRESH = "fresh"

staged_segments = dg.AssetSpec(
    "staged_segments",
    group_name=GROUP,
    owners=[LANDING],
    description="Segments that ingest has staged. Observed at the start of every landing run.",
)


@dg.asset(
    deps=[staged_segments],
    group_name=GROUP,
    owners=[LANDING],
    kinds={"deltalake", "polars"},
    check_specs=[
        dg.AssetCheckSpec(
            FRESH,
            asset="events",
            description="No tenant has had something staged for longer than `KAIMON_ALERT_STALE_S` that has not "
            "landed, as each landing run ends. By the tenants' watermarks: those who are stale are named.",
        )
    ],
    description="Events, ledger, quarantine and hosts. A run drains: it lands whatever day the data is of, so this "
    "asset has no partitions; the day of each row is a partition of the Delta table.",
)
def events(context: dg.AssetExecutionContext, platform: PlatformResource) -> Iterator[dg.MaterializeResult[None]]:
    with platform.step(context) as db:
        context.log_event(_observe(db))
        holder = f"landing {context.run.run_id}"
        try:
            patience_s = SUCCESSOR_PATIENCE_S if SUCCESSOR in context.run.tags else 0.0
            with draining(db, holder, patience_s):
                outcome = drain(db, holder, platform.lake, platform.settings)
        except LeaseHeldError:
            metadata: dict[str, Any] = {"tenants": 0, "left_to": "another landing run"}
        else:
            outcome.raise_if_all_failed()
            metadata = outcome.metadata()
        freshness = look(db, AlertSettings().alert_stale_s)
    fresh = dg.AssetCheckResult(
        check_name=FRESH,
        passed=not freshness.stale,
        severity=dg.AssetCheckSeverity.WARN,
        metadata=freshness.metadata(),
    )
    yield dg.MaterializeResult(metadata=metadata, check_results=[fresh])


def _observe(db: Database) -> dg.AssetObservation:
    """What the hints say is waiting: ids and counts."""
    hints = all_hints(db)
    waiting = {"tenants": len({hint.tenant_id for hint in hints}), "nodes": len({hint.node for hint in hints})}
    return dg.AssetObservation(staged_segments.key, metadata=waiting)


@dg.asset(
    deps=[events],
    partitions_def=DAYS,
    group_name=GROUP,
    owners=[TABLES],
    kinds={"greatexpectations", "polars"},
    check_specs=[check_spec("day_checks", RULES)],
    description="Each tenant's day against the rules; the result is its day state, which gates all that follows.",
)
def day_checks(
    context: dg.AssetExecutionContext, platform: PlatformResource
) -> Iterator[dg.Output[Tenants] | dg.AssetCheckResult]:
    day = date.fromisoformat(context.partition_key)
    with platform.step(context) as db:
        checked = check_day(platform, db, day, context.run.run_id)
        checked.outcome.raise_if_all_failed()
    yield dg.Output(checked.passed, metadata=checked.outcome.metadata())
    yield check_result(checked, day, RULES)


@dg.asset(
    partitions_def=DAYS,
    group_name=GROUP,
    owners=[REPORTS],
    kinds={"polars"},
    description="What our Sigma rules saw, by host, user and program, and what became of what they saw before.",
)
def findings(
    context: dg.AssetExecutionContext, platform: PlatformResource, completeness: Tenants
) -> dg.MaterializeResult[Tenants]:
    return for_day(context, platform, completeness, make_findings)


def _and_week(work: Callable[[TenantTables, Period], Counts]) -> Callable[[TenantTables, date], Counts]:
    """Do a step for a day, and for its week if that is over: late data for a day makes both anew."""

    def both(tables: TenantTables, day: date) -> Counts:
        counts = work(tables, Period("day", day))
        week = week_of(day)
        if is_due(tables, week):
            counts |= {f"week_{name}": number for name, number in work(tables, week).items()}
        return counts

    return both


@dg.asset(
    partitions_def=DAYS,
    group_name=GROUP,
    owners=[REPORTS],
    description="Everything that a summary may say: values with units, previous values and the SQL that gives them.",
)
def facts(
    context: dg.AssetExecutionContext, platform: PlatformResource, findings: Tenants, rollup_checks: Tenants
) -> dg.MaterializeResult[Tenants]:
    return for_day(context, platform, sorted(set(findings) & set(rollup_checks)), _and_week(make_facts))


@dg.asset(
    partitions_def=DAYS,
    group_name=GROUP,
    owners=[REPORTS],
    description="The facts in words; a new revision whenever the facts have changed.",
)
def executive_summary(
    context: dg.AssetExecutionContext, platform: PlatformResource, facts: Tenants
) -> dg.MaterializeResult[Tenants]:
    def write(tables: TenantTables, period: Period) -> Counts:
        return write_summary(tables, period, writer_for(tables.db, tables.tenant))

    return for_day(context, platform, facts, _and_week(write))


@dg.asset(
    partitions_def=DAYS,
    group_name=GROUP,
    owners=[REPORTS],
    description="Each revision as HTML, text and PDF in the outbox, once.",
)
def delivery(
    context: dg.AssetExecutionContext, platform: PlatformResource, executive_summary: Tenants
) -> dg.MaterializeResult[Tenants]:
    return for_day(context, platform, executive_summary, _and_week(deliver))


ASSETS: list[dg.AssetsDefinition | dg.AssetSpec] = [
    staged_segments,
    events,
    day_checks,
    sealed_day,
    *ROLLUPS,
    rollup_checks,
    findings,
    facts,
    executive_summary,
    delivery,
]
