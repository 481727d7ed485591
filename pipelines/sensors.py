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
from pipelines.drain import anything_pending, is_draining
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
        if any(not _bury(context.instance, db, run) for run in runs):
            return SkipReason("a landing run is on its way")
    return SensorResult(run_requests=[RunRequest()])


def _bury(instance: DagsterInstance, db: Database, record: RunRecord) -> bool:
    """Mark a run as failed whose process is gone, and say whether it was.

    A machine that went down leaves a run that Dagster believes to run for ever; but no run drains without its lease.
    """
    started = record.start_time
    if record.dagster_run.status != DagsterRunStatus.STARTED or started is None:
        return False
    if db.clock() - datetime.fromtimestamp(started, tz=db.clock().tzinfo) < _SETTLING or is_draining(db):
        return False
    get_logger(__name__).error("landing_run_died", run=record.dagster_run.run_id)
    instance.report_run_failed(record.dagster_run, "Its process is gone: nobody holds the lease of the draining run.")
    return True
