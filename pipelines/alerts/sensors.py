"""The sensors: one notes a run that failed at once, the other looks for all that is wrong and tells it."""

from __future__ import annotations

from dagster import (
    DefaultSensorStatus,
    RunFailureSensorContext,
    SensorEvaluationContext,
    SkipReason,
    run_failure_sensor,
    sensor,
)
from sqlalchemy.exc import SQLAlchemyError

from kaimon.base.clock import utc_now
from kaimon.base.logs import get_logger
from pipelines.alerts.causes import run_failed
from pipelines.alerts.notify import fallback, look, tell
from pipelines.resources import PlatformResource
from pipelines.settings import AlertSettings
from tenancy.alerts import raise_alert


@run_failure_sensor(
    default_status=DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=AlertSettings().alert_interval_s,
    description="Notes each run that failed; `alerts` tells it, and clears it once its job and day have gone through.",
)
def failed_run(context: RunFailureSensorContext, platform: PlatformResource) -> None:
    with platform.database() as db:
        raise_alert(db, run_failed(context.dagster_run))


@sensor(
    minimum_interval_seconds=AlertSettings().alert_interval_s,
    default_status=DefaultSensorStatus.RUNNING,
    description="Looks for runs that failed, tenants that are stale, events that are unaccounted for, quarantine that "
    "grows and alarms; tells each by mail and webhook when it begins and when it is over.",
)
def alerts(context: SensorEvaluationContext, platform: PlatformResource) -> SkipReason:
    settings = AlertSettings()
    try:
        with platform.database() as db:
            look(db, context.instance, platform.settings, settings)
            counts = tell(db, settings)
    except SQLAlchemyError as error:
        get_logger(__name__).error("control_database_away", error=type(error).__name__)
        context.update_cursor(fallback(settings, context.cursor, utc_now(), away=True))
        return SkipReason("the control database does not answer")
    context.update_cursor(fallback(settings, context.cursor, utc_now(), away=False))
    said = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
    return SkipReason(f"told: {said}" if said else "nothing new to tell")
