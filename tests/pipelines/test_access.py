"""Every step of every job is in the access log, with whose data it touched; a new step cannot escape."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import pytest

from kaimon.base.access import Access, report, reporting_to
from lake.access import FOLDER, access_log
from lake.access_reads import read_access
from lake.stores import open_store
from pipelines.audit import NIGHTLY
from pipelines.definitions import defs
from pipelines.drain import drain
from pipelines.settings import PipelineSettings

START = datetime(2026, 3, 4, tzinfo=UTC)
DAY = START.date()


def a_day(home: Any, load: Any, tenant: str = "acme") -> None:
    load.do(START, path="/srv/very-secret", user="ada-lovelace")
    load.cut(START, final=True)
    home.stage(home.tenant(tenant), load)


SORTING: Final = frozenset({"seal_shards", "seals_of_day"})
"""Steps that only sort tenants' names and open nothing."""


def op_of(step: str) -> str:
    """The op of a step: without the graph that it is in and the shard that it is for."""
    return step.rpartition(".")[2].partition("[")[0]


def logged() -> list[Access]:
    now = datetime.now(UTC)
    return list(read_access(open_store("audit"), now - timedelta(days=1), now + timedelta(days=1)))


def test_each_step_of_each_job_leaves_one_record_and_one_for_each_tenant(home: Any, load: Any) -> None:
    a_day(home, load)
    steps: Counter[str] = Counter()
    runs = {}
    jobs = {job.name: job for job in defs.resolve_all_job_defs() if not job.name.startswith("__")}
    for name in sorted(jobs, key=lambda name: name != "land"):
        day = DAY.isoformat() if jobs[name].partitions_def else None
        done = jobs[name].execute_in_process(instance=home.instance, partition_key=day)
        assert done.success
        runs[done.run_id] = name
        steps.update(op_of(event.step_key) for event in done.get_step_success_events())
    assert steps.keys() >= SORTING
    for name in SORTING:
        del steps[name]
    found = [one for one in logged() if one.kind == "run"]
    assert Counter(one.what for one in found if one.tenant is None) == steps
    assert set(steps) >= {"events", "day_checks", "activity", "delivery", "sign_audit_heads", "purge_access_log"}
    for one in found:
        assert (one.outcome, one.who) == ("ok", "system")
        assert one.origin == f"dagster:{runs[str(one.request_id)]}"
    of_tenant = {one.what for one in found if one.tenant == "acme"}
    assert of_tenant >= {"land", "day_checks", "activity", "completeness", "facts", "executive_summary", "delivery"}


def test_a_step_names_its_day_and_its_storage_is_tied_to_it(home: Any, load: Any) -> None:
    a_day(home, load)
    home.run("events")
    done = home.run("day_checks", day=DAY)
    found = logged()
    (step,) = [one for one in found if one.kind == "run" and one.what == "day_checks" and one.tenant is None]
    assert (step.object, step.request_id) == (DAY.isoformat(), done.run_id)
    touched = {one.what for one in found if one.kind == "storage" and one.tenant == "acme"}
    assert touched >= {"staging.get", "staging.list", "lake.put", "lake.append", "lake.replace", "lake.read"}
    reads = [one for one in found if one.what == "lake.read" and one.request_id == done.run_id]
    assert reads
    assert all(one.tenant == "acme" and one.origin == step.origin for one in reads)
    text = repr(found)
    assert "very-secret" not in text
    assert "ada-lovelace" not in text


@pytest.mark.parametrize("how", ["one", "all"])
def test_a_tenant_that_fails_is_told_from_those_that_do_not(home: Any, load: Any, new_load: Any, how: str) -> None:
    a_day(home, load)
    next((home.path / "staging" / "acme").rglob("*.parquet")).write_bytes(b"not a segment")
    if how == "one":
        a_day(home, new_load(agent_id="agt_00000000000000bb"), "globex")
    home.run("events")
    outcomes = {one.tenant: one.outcome for one in logged() if one.kind == "run"}
    assert outcomes.pop("acme") == "SegmentError"
    assert outcomes == ({None: "ok", "globex": "ok"} if how == "one" else {None: "Failure"})


def test_landing_without_dagster_is_told_by_tenant_too(home: Any, load: Any) -> None:
    a_day(home, load)
    seen: list[Access] = []
    with reporting_to(seen.append):
        drain(home.db, "test", home.lake, PipelineSettings())
    (landed,) = [one for one in seen if one.kind == "run"]
    assert (landed.what, landed.tenant, landed.count, landed.outcome) == ("land", "acme", 1, "ok")


def test_old_records_go_in_the_night(home: Any) -> None:
    assert NIGHTLY.cron_schedule == "37 1 * * *"
    store = open_store("audit")
    today = datetime.now(UTC).date()
    for days in (366, 365):
        store.put_new(f"{FOLDER}/{_ago(today, days)}/000000000000-000000000001-cli-x-000001.ndjson.zst", b"")
    defs.resolve_job_def("purge_audit").execute_in_process(instance=home.instance)
    kept = {found.key.split("/")[1] for found in store.list(FOLDER)}
    assert kept == {_ago(today, 365), today.isoformat()}


def test_yesterdays_many_objects_are_few_in_the_morning(home: Any) -> None:
    at = datetime.now(UTC) - timedelta(days=1)
    for number in range(3):
        with access_log("cli", home.lake):
            report(Access(at=at, kind="command", what="x", outcome="ok", count=number))
    defs.resolve_job_def("purge_audit").execute_in_process(instance=home.instance)
    assert len(list(open_store("audit").list(f"{FOLDER}/{at.date()}"))) == 1
    commands = [
        one for one in read_access(open_store("audit"), at - timedelta(1), at + timedelta(2)) if one.what == "x"
    ]
    assert sorted(one.count or 0 for one in commands) == [0, 1, 2]


def _ago(today: date, days: int) -> str:
    return (today - timedelta(days=days)).isoformat()
