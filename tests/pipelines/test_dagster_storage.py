"""What Dagster keeps of itself: where, by one setting, and for how long; on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance, DagsterInvariantViolationError, DagsterRunStatus
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import (
    InProcessCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster_shared.error import SerializableErrorInfo

from kaimon.base.settings import PROJECT_ROOT
from pipelines.definitions import defs
from pipelines.purge import NIGHTLY, purge_dagster, purge_runs, purge_ticks
from pipelines.resources import Platform
from pipelines.settings import DagsterSettings

NOW = datetime.now(UTC)
_LOCATION = InProcessCodeLocationOrigin(
    LoadableTargetOrigin(module_name="pipelines.definitions"), location_name="kaimon"
)
SENSOR = RemoteInstigatorOrigin(RemoteRepositoryOrigin(_LOCATION, "__repository__"), "staged")


@pytest.fixture(params=["sqlite", "postgresql"])
def instance(request: pytest.FixtureRequest, home: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[DagsterInstance]:
    """An instance by the project's own `dagster.yaml`."""
    folder = home.path / "dagster"
    folder.mkdir()
    shutil.copyfile(PROJECT_ROOT / "dagster.yaml", folder / "dagster.yaml")
    monkeypatch.setenv("DAGSTER_HOME", str(folder))
    name = None
    if request.param == "postgresql":
        postgres = request.getfixturevalue("postgres")
        name = postgres.create()
        monkeypatch.setenv("KAIMON_DAGSTER_DATABASE_URL", postgres.url(name))
    with DagsterInstance.get() as made:
        yield made
    if name is not None:
        postgres.drop(name)


def test_a_real_run_is_kept_where_the_setting_says_and_nowhere_else(
    instance: DagsterInstance, home: Any, load: Any, request: pytest.FixtureRequest
) -> None:
    load.do(NOW)
    load.cut(NOW, final=True)
    home.stage(home.tenant("acme"), load)
    done = defs.resolve_job_def("land").execute_in_process(instance=instance)
    assert done.success
    assert home.table("acme", "batches").height == 1
    [record] = instance.get_run_records()
    assert record.dagster_run.status == DagsterRunStatus.SUCCESS
    files = {path.suffix for path in (home.path / "dagster").rglob("*") if path.is_file()}
    on_postgres = "postgresql" in request.node.name
    assert (".db" in files) != on_postgres
    # Another process, by the same dagster.yaml, sees the same run.
    with DagsterInstance.get() as again:
        assert [one.dagster_run.run_id for one in again.get_run_records()] == [done.run_id]


def test_dagster_never_shares_the_control_database(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from pipelines.dagster_storage import ChosenStorage

    for name in ("KAIMON_DATABASE_URL", "KAIMON_DAGSTER_DATABASE_URL"):
        monkeypatch.setenv(name, "postgresql://kaimon@db.example/kaimon")
    with pytest.raises(DagsterInvariantViolationError, match="names the control database"):
        ChosenStorage.from_config_value(None, {})


def land(instance: DagsterInstance, **tags: str) -> str:
    """Return a run that went through."""
    done = defs.resolve_job_def("land").execute_in_process(instance=instance, tags=tags)
    assert done.success
    return done.run_id


def bytes_of(folder: Path, needle: str) -> list[Path]:
    return [path for path in folder.rglob("*") if needle in path.name or needle in str(path.parent)]


def test_the_night_deletes_old_runs_with_all_that_is_kept_of_them_and_no_others(
    instance: DagsterInstance, home: Any, request: pytest.FixtureRequest
) -> None:
    plain, of_a_day = land(instance), land(instance, **{"dagster/partition": "2026-03-04"})
    going = instance.create_run_for_job(defs.resolve_job_def("land"))
    assert purge_runs(instance, DagsterSettings(), NOW + timedelta(days=13)) == 0
    assert bytes_of(home.path / "dagster", plain), "captured output, or a file of events"
    assert purge_runs(instance, DagsterSettings(), NOW + timedelta(days=15)) == 1
    left = {record.dagster_run.run_id for record in instance.get_run_records()}
    assert left == {of_a_day, going.run_id}
    assert instance.all_logs(of_a_day)
    # On SQLite a run's events have a file of their own, which asking for them would make again.
    if not hasattr(instance.event_log_storage, "path_for_shard"):
        assert instance.all_logs(plain) == []
    assert bytes_of(home.path / "dagster", plain) == []
    assert purge_runs(instance, DagsterSettings(), NOW + timedelta(days=401)) == 1
    assert [record.dagster_run.run_id for record in instance.get_run_records()] == [going.run_id]


def test_more_old_runs_than_a_page_all_go(instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.purge._PAGE", 2)
    for _ in range(5):
        instance.report_run_failed(instance.create_run_for_job(defs.resolve_job_def("land")))
    assert purge_runs(instance, DagsterSettings(), NOW + timedelta(days=15)) == 5
    assert instance.get_run_records() == []


def test_old_ticks_go_by_what_became_of_them(instance: DagsterInstance) -> None:
    origin = SENSOR.get_id(), SENSOR.get_selector().get_id()
    data = SensorInstigatorData()
    instance.add_instigator_state(InstigatorState(SENSOR, InstigatorType.SENSOR, InstigatorStatus.RUNNING, data))
    at = (NOW - timedelta(days=2)).timestamp()
    error = SerializableErrorInfo("gone wrong", [], None)
    told: dict[TickStatus, dict[str, Any]] = {
        TickStatus.SKIPPED: {},
        TickStatus.SUCCESS: {"run_ids": []},
        TickStatus.FAILURE: {"error": error},
    }
    for status, more in told.items():
        tick = TickData(origin[0], "staged", InstigatorType.SENSOR, status, at, selector_id=origin[1], **more)
        instance.create_tick(tick)

    def left() -> set[TickStatus]:
        return {tick.status for tick in instance.get_ticks(*origin)}

    purge_ticks(instance, NOW)
    assert left() == {TickStatus.SUCCESS, TickStatus.FAILURE}
    purge_ticks(instance, NOW + timedelta(days=31))
    assert left() == set()


def test_the_purge_runs_every_night_as_a_job(instance: DagsterInstance, home: Any) -> None:
    assert NIGHTLY.cron_schedule == "47 3 * * *"
    assert NIGHTLY.default_status.value == "RUNNING"
    assert purge_dagster.execute_in_process(instance=instance, resources={"platform": Platform()}).success
