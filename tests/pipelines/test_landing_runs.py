"""When landing runs start, what they leave out, and which days the night closes."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from threading import Barrier, Event
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterInstance, DagsterRunStatus, EventLogEntry, build_schedule_context, build_sensor_context

from pipelines.definitions import defs
from pipelines.drain import SUCCESSOR, drain, draining
from pipelines.landing import Landed, land_tenant
from pipelines.resources import Platform
from pipelines.schedules import days_to_close, nightly
from pipelines.sensors import staged
from pipelines.settings import PipelineSettings
from tenancy.days import get, mark_open

START = datetime(2026, 3, 4, tzinfo=UTC)
DAY = date(2026, 3, 4)


def look(instance: DagsterInstance) -> Any:
    return staged(build_sensor_context(instance=instance, resources={"platform": Platform()}))


def one_batch(load: Any) -> Any:
    load.do(START)
    load.cut(START, final=True)
    return load


def test_the_sensor_starts_a_run_only_for_what_has_not_landed(home: Any, load: Any) -> None:
    assert isinstance(look(home.instance), dg.SkipReason)
    home.stage(home.tenant("acme"), one_batch(load))
    assert len(look(home.instance).run_requests) == 1
    home.run("events")
    assert isinstance(look(home.instance), dg.SkipReason)


def test_the_sensor_starts_none_while_one_is_on_its_way(home: Any, load: Any) -> None:
    home.stage(home.tenant("acme"), one_batch(load))
    home.instance.add_run(dg.DagsterRun(job_name="land", status=DagsterRunStatus.STARTING))
    assert "on its way" in str(look(home.instance).skip_message)


def started(home: Any, ago: timedelta) -> str:
    """A landing run that Dagster believes to have started `ago`."""
    run = home.instance.create_run_for_job(defs.resolve_job_def("land"))
    at = (datetime.now(UTC) - ago).timestamp()
    home.instance.handle_new_event(_started_event(run.run_id, at))
    return str(run.run_id)


def _started_event(run_id: str, at: float) -> EventLogEntry:
    event = dg.DagsterEvent(event_type_value=dg.DagsterEventType.RUN_START.value, job_name="land")
    return EventLogEntry(
        error_info=None, level=10, user_message="", run_id=run_id, timestamp=at, job_name="land", dagster_event=event
    )


def test_a_run_that_drains_is_left_alone(home: Any, load: Any) -> None:
    home.stage(home.tenant("acme"), one_batch(load))
    run = started(home, timedelta(minutes=5))
    with draining(home.db, "test"):
        assert "on its way" in str(look(home.instance).skip_message)
    assert home.instance.get_run_by_id(run).status == DagsterRunStatus.STARTED


def test_a_run_that_ends_soon_gets_one_successor_that_waits_for_it(home: Any, load: Any) -> None:
    home.stage(home.tenant("acme"), one_batch(load))
    started(home, timedelta(seconds=PipelineSettings().landing_limit_s - 30))
    with draining(home.db, "test"):
        [request] = look(home.instance).run_requests
        assert request.tags == {SUCCESSOR: "yes"}
        home.instance.add_run(dg.DagsterRun(job_name="land", status=DagsterRunStatus.STARTING))
        assert "on its way" in str(look(home.instance).skip_message)
    ended = Event()

    def successor() -> None:
        with draining(home.db, "successor", 60):
            assert ended.is_set()

    with ThreadPoolExecutor(1) as pool:
        with draining(home.db, "test"):
            waiting = pool.submit(successor)
            ended.set()
        waiting.result(60)


def test_a_run_that_has_just_started_is_left_alone(home: Any, load: Any) -> None:
    home.stage(home.tenant("acme"), one_batch(load))
    started(home, timedelta(seconds=10))
    assert "on its way" in str(look(home.instance).skip_message)


def test_a_run_whose_machine_went_down_is_buried_and_followed_by_another(home: Any, load: Any) -> None:
    home.stage(home.tenant("acme"), one_batch(load))
    run = started(home, timedelta(minutes=5))
    assert len(look(home.instance).run_requests) == 1
    assert home.instance.get_run_by_id(run).status == DagsterRunStatus.FAILURE


def test_a_second_draining_run_leaves_it_to_the_first(home: Any, load: Any) -> None:
    home.stage(home.tenant("acme"), one_batch(load))
    with draining(home.db, "test"):
        assert home.run("events").success
    assert home.table("acme", "batches").is_empty()
    home.run("events")
    assert home.table("acme", "batches").height == 1


def test_a_drain_lands_every_tenant_and_counts_each(home: Any, load: Any, new_load: Any) -> None:
    other = new_load(agent_id="agt_00000000000000bb")
    home.stage(home.tenant("acme"), one_batch(load))
    home.stage(home.tenant("globex"), one_batch(other))
    outcome = drain(home.db, "test", home.lake, PipelineSettings())
    counts = {tenant: (found["segments"], found["rows"]) for tenant, found in outcome.done.items()}
    assert counts == {"acme": (1, 1), "globex": (1, 1)}
    state = get(home.db, "acme", DAY)
    assert state is not None
    assert state.state == "open"


def test_two_tenants_land_at_once_and_each_once(
    home: Any, load: Any, new_load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.stage(home.tenant("acme"), one_batch(load))
    home.stage(home.tenant("globex"), one_batch(new_load(agent_id="agt_00000000000000bb")))
    both = Barrier(2)

    def meet(*given: Any, **how: Any) -> Landed:
        if how["listing"]:  # the first look; later ones find nothing
            both.wait(60)
        return land_tenant(*given, **how)

    monkeypatch.setattr("pipelines.drain.land_tenant", meet)
    outcome = drain(home.db, "test", home.lake, PipelineSettings(landing_at_once=2))
    assert {tenant: found["rows"] for tenant, found in outcome.done.items()} == {"acme": 1, "globex": 1}
    assert not outcome.failed


def test_a_tenant_that_fails_never_stops_the_others(home: Any, load: Any, new_load: Any) -> None:
    other = new_load(agent_id="agt_00000000000000bb")
    home.stage(home.tenant("acme"), one_batch(load))
    home.stage(home.tenant("globex"), one_batch(other))
    next((home.path / "staging" / "acme").rglob("*.parquet")).write_bytes(b"not a segment")
    outcome = drain(home.db, "test", home.lake, PipelineSettings())
    assert list(outcome.failed) == ["acme"]
    assert list(outcome.done) == ["globex"]


def test_a_landing_run_fails_only_when_it_failed_for_everyone(home: Any, load: Any) -> None:
    home.stage(home.tenant("acme"), one_batch(load))
    next((home.path / "staging" / "acme").rglob("*.parquet")).write_bytes(b"not a segment")
    assert not home.run("events").success


def test_a_drain_stops_when_it_is_told_to(home: Any, load: Any) -> None:
    home.stage(home.tenant("acme"), one_batch(load))
    assert not drain(home.db, "test", home.lake, PipelineSettings(), should_stop=lambda: True).done


def test_the_night_closes_yesterday_and_what_late_data_reopened() -> None:
    reopened = {DAY - timedelta(days=3), DAY - timedelta(days=30), DAY}
    closed = days_to_close(DAY, reopened, back=8, first=date(2026, 1, 1))
    assert closed == [DAY - timedelta(days=3), DAY - timedelta(days=1)]
    assert days_to_close(DAY, set(), back=8, first=DAY) == []


def test_the_schedule_asks_for_one_run_a_day(home: Any) -> None:
    mark_open(home.db, home.tenant("acme"), [DAY - timedelta(days=2)])
    at = datetime(2026, 3, 4, 2, tzinfo=UTC)
    requests = nightly(build_schedule_context(scheduled_execution_time=at, resources={"platform": Platform()}))
    assert [request.partition_key for request in requests] == ["2026-03-02", "2026-03-03"]
    assert len({request.run_key for request in requests}) == 2


def test_the_graph_is_what_the_architecture_says() -> None:
    code = """
from pipelines.definitions import defs
graph = defs.resolve_asset_graph()
for key in sorted(graph.get_all_asset_keys()):
    node = graph.get(key)
    parents = sorted(parent.to_user_string() for parent in node.parent_keys)
    print(key.to_user_string(), *parents, bool(node.partitions_def))
print(*sorted(job.name for job in defs.resolve_all_job_defs() if not job.name.startswith("__")))
"""
    answer = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines() == [
        "activity sealed_day True",
        "completeness sealed_day True",
        "day_checks events True",
        "delivery executive_summary True",
        "events staged_segments False",
        "executive_summary facts True",
        "facts findings rollup_checks True",
        "findings completeness True",
        "new_behaviour sensitive True",
        "processes sealed_day True",
        "retention False",
        "rollup_checks activity completeness new_behaviour processes sensitive top_paths users True",
        "sealed_day day_checks True",
        "sensitive sealed_day True",
        "staged_segments False",
        "top_paths sealed_day True",
        "users sealed_day True",
        "close_day land post_summaries provisional purge_audit purge_dagster retain sign_audit",
    ]
