"""Every five minutes the summaries that are due go out by mail, where a mail server is set."""

# No `from __future__ import annotations` here: Dagster looks at the type of `context` itself.
from dagster import DefaultScheduleStatus, OpExecutionContext, ScheduleDefinition, in_process_executor, job, op

from kaimon.base.settings import MailSettings
from pipelines.resources import Platform, PlatformResource
from pipelines.summaries.post import hear, post
from pipelines.tenant_loop import Outcome, for_each_tenant
from tenancy.database import Database
from tenancy.leases import LeaseHeldError, held_lease
from tenancy.schedules import schedules

_LEASE = "posting-run"


def post_due(platform: Platform, db: Database, run: str) -> Outcome:
    """Mail what is due of every tenant that has a schedule.

    Raises:
        LeaseHeldError: another such run is at it.
    """
    settings = MailSettings()
    known = {one.tenant_id: one for one in schedules(db)} if settings.can_mail else {}
    with held_lease(db, _LEASE, run, db.settings.lease_ttl_s):
        hear(db, settings)
        return for_each_tenant(
            "post", known, lambda tenant: post(platform.tables(db, tenant, f"post {run}"), known[tenant], settings)
        )


@op(description="Mail each summary that is due to each confirmed recipient, once.")
def mail_summaries(context: OpExecutionContext, platform: PlatformResource) -> None:
    with platform.step(context) as db:
        try:
            outcome = post_due(platform, db, context.run.run_id)
        except LeaseHeldError:
            context.add_output_metadata({"tenants": 0, "left_to": "another run"})
            return
    outcome.raise_if_all_failed()
    context.add_output_metadata(outcome.metadata())


@job(executor_def=in_process_executor, tags={"kaimon/work": "post"})
def post_summaries() -> None:
    """Mail the summaries that are due."""
    mail_summaries()


POST_EVERY_FIVE_MINUTES = ScheduleDefinition(
    job=post_summaries,
    cron_schedule="2-59/5 * * * *",
    execution_timezone="UTC",
    default_status=DefaultScheduleStatus.RUNNING,
)
