"""The nightly schedule: it closes yesterday, and again each day that late data has reopened."""

from __future__ import annotations

from datetime import date, timedelta

from dagster import DefaultScheduleStatus, RunRequest, ScheduleEvaluationContext, schedule

from pipelines.jobs import CLOSE_DAY
from pipelines.resources import PlatformResource
from tenancy.days import with_news


@schedule(
    job=CLOSE_DAY,
    cron_schedule="0 2 * * *",
    execution_timezone="UTC",
    default_status=DefaultScheduleStatus.RUNNING,
    description="At two in the morning UTC: yesterday, and every day of late with data since its check or its seal.",
)
def nightly(context: ScheduleEvaluationContext, platform: PlatformResource) -> list[RunRequest]:
    at = context.scheduled_execution_time
    earliest, yesterday = span(at.date(), platform.settings.reopened_days, platform.settings.first_day)
    with platform.database() as db:
        reopened = with_news(db, earliest, yesterday)
    return [
        RunRequest(run_key=f"{at.isoformat()} {day.isoformat()}", partition_key=day.isoformat())
        for day in days_to_close(at.date(), set(reopened), platform.settings.reopened_days, platform.settings.first_day)
    ]


def span(today: date, back: int, first: date) -> tuple[date, date]:
    """Return the first and the last day that may be closed: `back` days ago, none before `first`, and yesterday."""
    return max(first, today - timedelta(days=back)), today - timedelta(days=1)


def days_to_close(today: date, reopened: set[date], back: int, first: date) -> list[date]:
    """Return yesterday and the reopened days before it, at most `back` days ago and none before `first`, in order."""
    earliest, yesterday = span(today, back, first)
    return sorted(day for day in reopened | {yesterday} if earliest <= day <= yesterday)
