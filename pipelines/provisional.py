"""Every five minutes the running day is rolled up as far as it has come; its seal replaces what this has written."""

# No `from __future__ import annotations` here: Dagster looks at the type of `context` itself.
from datetime import date, timedelta

from dagster import DefaultScheduleStatus, OpExecutionContext, ScheduleDefinition, in_process_executor, job, op

from pipelines.gate import admit
from pipelines.resources import Platform, PlatformResource
from pipelines.rollups.day import ALL
from pipelines.tables import TenantTables
from pipelines.tenant_loop import Counts, Outcome, SkipTenantError, for_each_tenant
from tenancy.database import Database
from tenancy.days import get, list_days
from tenancy.leases import LeaseHeldError, held_lease

EVERY = timedelta(minutes=5)
_LEASE = "provisional-run"


def roll_running_day(platform: Platform, db: Database, run: str) -> Outcome:
    """Roll up the running day, and no other, of every tenant to which something came since the last time.

    What came in the two periods before now counts as new, so that a run that failed is made good by the next.

    Raises:
        LeaseHeldError: another such run is at it.
    """
    today = db.clock().date()
    with held_lease(db, _LEASE, run, db.settings.lease_ttl_s):
        fresh = [one.tenant_id for one in list_days(db, day=today) if one.changed_at >= db.clock() - 2 * EVERY]

        def one(tenant: str) -> Counts:
            if db.clock().date() != today:
                raise SkipTenantError("the day is over")
            admit(db, tenant, today)
            return _roll(platform.tables(db, tenant, f"provisional {run}"), today)

        return for_each_tenant("provisional", fresh, one)


def _roll(tables: TenantTables, day: date) -> Counts:
    state = get(tables.db, tables.tenant, day)
    counts = [work(tables, day) for work in ALL.values()]
    return {"version": 0 if state is None else state.version, "rows": sum(count.get("rows", 0) for count in counts)}


@op(description="Roll up the running day of each tenant that has news.")
def roll_up_running_day(context: OpExecutionContext, platform: PlatformResource) -> None:
    with platform.step(context) as db:
        try:
            outcome = roll_running_day(platform, db, context.run.run_id)
        except LeaseHeldError:
            context.add_output_metadata({"tenants": 0, "left_to": "another run"})
            return
    outcome.raise_if_all_failed()
    context.add_output_metadata(outcome.metadata())


@job(executor_def=in_process_executor, tags={"kaimon/work": "provisional"})
def provisional() -> None:
    """Roll up the running day as far as it has come."""
    roll_up_running_day()


EVERY_FIVE_MINUTES = ScheduleDefinition(
    job=provisional,
    cron_schedule="*/5 * * * *",
    execution_timezone="UTC",
    default_status=DefaultScheduleStatus.RUNNING,
)
