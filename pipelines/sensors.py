"""The sensor that starts a landing run when something is staged and none is running."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from dagster import (
    DagsterInstance,
    DagsterRunStatus,
    DefaultSensorStatus,
    RunRecord,
    RunRequest,
    RunsFilter,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)

from kaimon.base.logs import get_logger
from lake.stores import open_store
from pipelines.drain import SUCCESSOR, SUCCESSOR_PATIENCE_S, anything_pending, is_draining
from pipelines.jobs import LAND
from pipelines.resources import PlatformResource
from pipelines.settings import PipelineSettings
from tenancy.database import Database

_ALIVE: Final = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]
_AHEAD_S: Final = 60.0
"""How long before a run ends its successor is started."""
_SETTLING: Final = timedelta(seconds=60)
"""How long a run may take from its start until it holds the lease of the draining run."""


@sensor(
    job=LAND,
    minimum_interval_seconds=PipelineSettings().sensor_interval_s,
    default_status=DefaultSensorStatus.RUNNING,
    description="Starts one landing run when hints speak of segments that have not landed.",
)
def staged(context: SensorEvaluationContext, platform: PlatformResource) -> SensorResult | SkipReason:
    with platform.database() as db:
        if not anything_pending(db, open_store("staging", platform.lake)):
            return SkipReason("nothing is staged")
        runs = context.instance.get_run_records(RunsFilter(job_name=LAND.name, statuses=_ALIVE))
        living = [run for run in runs if not _bury(context.instance, db, run)]
        if len(living) == 1 and _ends_soon(db, living[0], platform.settings.landing_limit_s):
            return SensorResult(run_requests=[RunRequest(tags={SUCCESSOR: "yes"})])
        if living:
            return SkipReason("a landing run is on its way")
    return SensorResult(run_requests=[RunRequest()])


def _ends_soon(db: Database, record: RunRecord, limit_s: float) -> bool:
    """Say whether a run has so little time left that another should be ready: starting one takes seconds to minutes."""
    if record.dagster_run.status != DagsterRunStatus.STARTED or record.start_time is None:
        return False
    return db.clock().timestamp() - record.start_time >= limit_s - min(_AHEAD_S, limit_s / 2)


def _bury(instance: DagsterInstance, db: Database, record: RunRecord) -> bool:
    """Mark a run as failed whose process is gone, and say whether it was.

    A machine that went down leaves a run that Dagster believes to run for ever; but no run drains without its lease.
    """
    started = record.start_time
    if record.dagster_run.status != DagsterRunStatus.STARTED or started is None:
        return False
    waits = timedelta(seconds=SUCCESSOR_PATIENCE_S) if SUCCESSOR in record.dagster_run.tags else timedelta()
    if db.clock() - datetime.fromtimestamp(started, tz=db.clock().tzinfo) < _SETTLING + waits or is_draining(db):
        return False
    get_logger(__name__).error("landing_run_died", run=record.dagster_run.run_id)
    instance.report_run_failed(record.dagster_run, "Its process is gone: nobody holds the lease of the draining run.")
    return True
