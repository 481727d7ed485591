"""What is wrong now: each look returns the causes that it sees, by ids and counts."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, time, timedelta
from typing import Final

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter

from pipelines.settings import AlertSettings, PipelineSettings
from tenancy.alarms import list_alarms
from tenancy.alerts import Alert, Cause
from tenancy.database import Database
from tenancy.days import DayState
from tenancy.watermarks import waiting, watermarks

RUN_FAILED: Final = "run_failed"
"""A run failed, and none of its job and day has gone through since; `subject` is `job` or `job/day`."""
STALE: Final = "stale"
"""What a tenant sent does not land, or a day of its that is over is not checked; `subject` is `landing` or the day."""
UNACCOUNTED: Final = "unaccounted"
"""Events of a tenant's day came neither into the tables nor are they known lost; `subject` is the day."""
DAY_FAILED: Final = "day_failed"
"""A tenant's day breaks another rule; `subject` is the day."""
QUARANTINE: Final = "quarantine"
"""More lines of a tenant than usual are quarantined today; `subject` is `lines`."""
ALARM: Final = "alarm"
"""Somebody must look, and nothing clears it; `subject` is the alarm's kind and its own subject."""
DATABASE_AWAY: Final = "database_away"
"""The control database does not answer."""
KINDS: Final = (RUN_FAILED, STALE, UNACCOUNTED, DAY_FAILED, QUARANTINE, ALARM, DATABASE_AWAY)

ACCOUNTING: Final = frozenset({"rows_unaccounted", "events_unaccounted", "loads_unbalanced", "ledger_difference"})
"""Rules of a day that say that something is missing or too many."""

_LOOK_BACK: Final = timedelta(days=8)
_CLOSED_BY: Final = time(6)
"""When a day must be checked, UTC: its run starts at two."""
_PARTITION: Final = "dagster/partition"
_MOST_RUNS: Final = 500


def run_subject(run: DagsterRun) -> str:
    """Return what tells a run's failures from another job's or day's."""
    day = run.tags.get(_PARTITION)
    return run.job_name if day is None else f"{run.job_name}/{day}"


def run_failed(run: DagsterRun) -> Cause:
    """Return the cause that a failed run is."""
    return Cause(RUN_FAILED, run_subject(run), detail={"run": run.run_id})


def failed_runs(instance: DagsterInstance, now: datetime, known: Iterable[Alert]) -> list[Cause]:
    """Return the jobs and days whose newest run that ended has failed.

    A cause that is `known` lasts until a run of its job and day has gone through, however long ago it failed.
    """
    failed = RunsFilter(statuses=[DagsterRunStatus.FAILURE], updated_after=now - _LOOK_BACK)
    causes: dict[str, Cause] = {}
    for record in instance.get_run_records(failed, limit=_MOST_RUNS):
        subject = run_subject(record.dagster_run)
        if subject not in causes and not _went_through(instance, subject, record.create_timestamp):
            causes[subject] = run_failed(record.dagster_run)
    for alert in known:
        if alert.kind == RUN_FAILED and alert.subject not in causes:
            record_of = instance.get_run_record_by_id(str(alert.detail.get("run")))
            since = alert.raised_at if record_of is None else record_of.create_timestamp
            if not _went_through(instance, alert.subject, since):
                causes[alert.subject] = Cause(RUN_FAILED, alert.subject, certain=False)
    return list(causes.values())


def _went_through(instance: DagsterInstance, subject: str, after: datetime) -> bool:
    job, _, day = subject.partition("/")
    tags = {_PARTITION: day} if day else {}
    done = RunsFilter(job_name=job, statuses=[DagsterRunStatus.SUCCESS], tags=tags, created_after=after)
    return bool(instance.get_run_records(done, limit=1))


def stale_tenants(
    db: Database, days: Iterable[DayState], pipelines: PipelineSettings, alerts: AlertSettings
) -> list[Cause]:
    """Return who waits for landing for too long, and which of the unsettled days nobody has checked in time."""
    landed = watermarks(db)
    causes = []
    for tenant, lag in waiting(db, timedelta(seconds=alerts.alert_stale_s)).items():
        upto = landed.get(tenant)
        detail = {"landed_until": None if upto is None else upto.received_at.isoformat()}
        causes.append(Cause(STALE, "landing", tenant, {"waiting_s": int(lag.total_seconds()), **detail}))
    now = db.clock()
    earliest = now.date() - timedelta(days=pipelines.reopened_days)
    late = (one for one in days if one.state == "open" and earliest <= one.day < now.date())
    overdue = [(one.tenant_id, one.day.isoformat()) for one in late if _overdue(one, now)]
    return causes + [Cause(STALE, day, tenant, {"day": day}) for tenant, day in overdue]


def _overdue(state: DayState, now: datetime) -> bool:
    """Say whether the night after a day ended, or after its last data came, has passed without a check."""
    due_from = max(state.changed_at, datetime.combine(state.day + timedelta(days=1), time(), UTC))
    night = due_from.date() if due_from.time() < time(2) else due_from.date() + timedelta(days=1)
    return now >= datetime.combine(night, _CLOSED_BY, UTC)


def failed_days(days: Iterable[DayState]) -> list[Cause]:
    """Return the unsettled days whose checks failed; one that is open again keeps the alert that it has."""
    causes = []
    for state in days:
        broken = [str(rule) for rule in state.detail.get("broken", [])]
        kinds = {UNACCOUNTED if rule in ACCOUNTING else DAY_FAILED for rule in broken}
        if state.state == "open":
            kinds = {UNACCOUNTED, DAY_FAILED}
        elif not kinds:
            kinds = {DAY_FAILED}
        detail = {"day": state.day.isoformat(), "broken": broken}
        causes += [
            Cause(kind, state.day.isoformat(), state.tenant_id, detail, certain=state.state == "failed")
            for kind in sorted(kinds)
        ]
    return causes


def full_quarantines(db: Database, alerts: AlertSettings) -> list[Cause]:
    """Return the tenants of whose lines that arrived today more are quarantined than the limit says."""
    today = db.clock().date()
    return [
        Cause(QUARANTINE, "lines", mark.tenant_id, {"day": today.isoformat(), "lines": mark.quarantined})
        for mark in watermarks(db).values()
        if mark.quarantine_day == today and mark.quarantined >= alerts.alert_quarantine_lines
    ]


def raised_alarms(db: Database) -> list[Cause]:
    """Return every alarm: they are told once and never cleared."""
    return [
        Cause(ALARM, f"{alarm.kind}/{alarm.subject}", alarm.tenant_id, {"alarm": alarm.kind, "agent": alarm.agent_id})
        for alarm in list_alarms(db)
    ]
