"""What Dagster keeps of itself for ever, deleted every night: old runs with their events and logs, old ticks."""

# No `from __future__ import annotations` here: Dagster looks at the type of `context` itself.
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import dagster as dg
from dagster import DagsterInstance, DagsterRunStatus, RunsFilter
from dagster._core.scheduler.instigation import TickStatus

from kaimon.base.logs import get_logger
from pipelines.resources import PlatformResource
from pipelines.settings import DagsterSettings
from tenancy.alerts import forget_old

_ENDED: Final = [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED]
_PAGE: Final = 200
_PARTITION: Final = "dagster/partition"
_TICKS: Final = {
    timedelta(days=1): [TickStatus.SKIPPED],
    timedelta(days=30): [TickStatus.SUCCESS, TickStatus.FAILURE],
}
"""How long ticks are kept, by what became of them."""


def purge_runs(instance: DagsterInstance, settings: DagsterSettings, now: datetime) -> int:
    """Delete runs that ended and were made before their time: rows, events, captured output; return how many.

    A day's run is kept as long as its partition is to look done in Dagster's pages. What a run materialized stays:
    only what Dagster remembers of it goes. A run that cannot be deleted is logged, and due again the next night.
    """
    old: list[str] = []
    for days, of_a_day in ((settings.run_retention_days, False), (settings.day_run_retention_days, True)):
        wanted = RunsFilter(statuses=_ENDED, created_before=now - timedelta(days=days))
        cursor: str | None = None
        while page := [one.dagster_run for one in instance.get_run_records(wanted, limit=_PAGE, cursor=cursor)]:
            old += [run.run_id for run in page if (_PARTITION in run.tags) == of_a_day]
            cursor = page[-1].run_id
    return sum(_delete(instance, run) for run in old)


def purge_ticks(instance: DagsterInstance, now: datetime) -> None:
    """Delete old ticks of every sensor and schedule, also of those that are no more; none without a scheduler."""
    if instance.schedule_storage is None:
        return
    for state in instance.all_instigator_state():
        for kept, statuses in _TICKS.items():
            before = (now - kept).timestamp()
            instance.purge_ticks(state.instigator_origin_id, state.selector_id, before, statuses)


def _delete(instance: DagsterInstance, run_id: str) -> bool:
    try:
        instance.compute_log_manager.delete_logs(prefix=[run_id])
        instance.delete_run(run_id)
        _delete_shard(instance, run_id)
    except Exception:  # noqa: BLE001 - it is due again, and the others go on
        get_logger(__name__).exception("run_not_purged", run=run_id)
        return False
    return True


def _delete_shard(instance: DagsterInstance, run_id: str) -> None:
    """Delete the file that Dagster's SQLite storage keeps a run's events in: it empties it and leaves it there."""
    path_of = getattr(instance.event_log_storage, "path_for_shard", None)
    if path_of is not None:
        shard = Path(path_of(run_id))
        for path in (shard, *(shard.with_name(shard.name + end) for end in ("-wal", "-shm", "-journal"))):
            path.unlink(missing_ok=True)


@dg.op(description="Delete what Dagster keeps of runs and ticks past their time, and alerts that were over long ago.")
def purge_old(context: dg.OpExecutionContext, platform: PlatformResource) -> None:
    with platform.step(context) as db:
        now = db.clock()
        gone = purge_runs(context.instance, DagsterSettings(), now)
        purge_ticks(context.instance, now)
        alerts = forget_old(db)
    context.add_output_metadata({"runs": gone, "alerts": alerts})


@dg.job(executor_def=dg.in_process_executor, tags={"kaimon/work": "purge"})
def purge_dagster() -> None:
    """Delete old runs, their event logs and captured output, ticks, and alerts."""
    purge_old()


NIGHTLY = dg.ScheduleDefinition(
    job=purge_dagster,
    cron_schedule="47 3 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
