"""The sensor that starts a landing run when something is staged and none is running."""

from __future__ import annotations

from dagster import (
    DagsterRunStatus,
    DefaultSensorStatus,
    RunRequest,
    RunsFilter,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)

from lake.stores import open_store
from pipelines.drain import anything_pending
from pipelines.jobs import LAND
from pipelines.resources import PlatformResource
from pipelines.settings import PipelineSettings

_ALIVE = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]


@sensor(
    job=LAND,
    minimum_interval_seconds=PipelineSettings().sensor_interval_s,
    default_status=DefaultSensorStatus.RUNNING,
    description="Starts one landing run when hints speak of segments that have not landed.",
)
def staged(context: SensorEvaluationContext, platform: PlatformResource) -> SensorResult | SkipReason:
    running = context.instance.get_run_records(RunsFilter(job_name=LAND.name, statuses=_ALIVE), limit=1)
    if running:
        return SkipReason("a landing run is on its way")
    with platform.database() as db:
        if not anything_pending(db, open_store("staging", platform.lake)):
            return SkipReason("nothing is staged")
    return SensorResult(run_requests=[RunRequest()])
