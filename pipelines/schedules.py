"""The nightly schedule: it closes yesterday, and again each day that late data has reopened."""

from __future__ import annotations

from datetime import date, timedelta

from dagster import DefaultScheduleStatus, RunRequest, ScheduleEvaluationContext, schedule

from pipelines.jobs import CLOSE_DAY
from pipelines.resources import PlatformResource
from tenancy.days import DayState, list_days


@schedule(
    job=CLOSE_DAY,
    cron_schedule="0 2 * * *",
    execution_timezone="UTC",
    default_status=DefaultScheduleStatus.RUNNING,
    description="At two in the morning UTC: yesterday, and every day of late with data since its check or its seal.",
)
def nightly(context: ScheduleEvaluationContext, platform: PlatformResource) -> list[RunRequest]:
    at = context.scheduled_execution_time
    with platform.database() as db:
        reopened = {state.day for state in list_days(db) if _has_news(state)}
    return [
        RunRequest(run_key=f"{at.isoformat()} {day.isoformat()}", partition_key=day.isoformat())
        for day in days_to_close(at.date(), reopened, platform.settings.reopened_days, platform.settings.first_day)
    ]


def _has_news(state: DayState) -> bool:
    """Say whether data has come since a day's check, or since the seal of a day whose check has passed."""
    return state.state == "open" or (state.state == "passed" and state.version > state.sealed_version)


def days_to_close(today: date, reopened: set[date], back: int, first: date) -> list[date]:
    """Return yesterday and the reopened days before it, at most `back` days ago and none before `first`, in order."""
    earliest = max(first, today - timedelta(days=back))
    yesterday = today - timedelta(days=1)
    return sorted(day for day in reopened | {yesterday} if earliest <= day <= yesterday)
