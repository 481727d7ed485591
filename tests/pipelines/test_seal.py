"""A tenant's day sealed: the same rows in order, the same checksum, once a night, whatever lands meanwhile."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from dagster import build_schedule_context
from structlog.testing import capture_logs

from lake.files import StoredFile, read_files
from lake.ordering import ORDER
from lake.sealed import seal_of
from pipelines import progress
from pipelines import seal as module
from pipelines.resources import Platform
from pipelines.schedules import nightly
from pipelines.seal import checksum_of, due, seal_day
from pipelines.sealed_day import in_shards
from tenancy.days import get, mark_open, set_checked

DAY = date(2026, 3, 4)
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
NIGHT = datetime(2026, 3, 5, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)


def busy(load: Any, first: int = 0, batches: int = 3) -> Any:
    for number in range(first, first + batches):
        for index in range(20):
            load.do(NOON + timedelta(seconds=number * 30 + index), path=f"/srv/{index * 7 % 20}", count=index + 1)
        load.cut(NOON + timedelta(seconds=number * 30 + 25))
    return load


def landed(home: Any, *loads: Any, **how: Any) -> Any:
    home.stage("acme", *loads, **how)
    assert home.run("events").success
    return home.tables("acme")


@pytest.fixture
def tables(home: Any, load: Any, new_load: Any) -> Any:
    """Two landings of a day."""
    home.tenant("acme")
    landed(home, busy(load))
    return landed(home, busy(new_load(agent_id="agt_00000000000000bb", hostname="db-1")), node="node-2")


def files(tables: Any) -> list[StoredFile]:
    return read_files("acme", "events", DAY, tables.settings)


def content(home: Any) -> pl.DataFrame:
    return home.table("acme", "events").sort(ORDER)


def seals(home: Any) -> dict[str, Any]:
    [row] = home.table("acme", "seals").rows(named=True)
    return dict(row)


def test_a_sealed_day_holds_the_same_rows_in_order(home: Any, tables: Any) -> None:
    before = content(home)
    assert seal_day(tables, DAY)["rows"] == before.height == 120
    assert home.table("acme", "events").equals(before), "in order as they are read"
    [file] = files(tables)
    told = seals(home)
    assert (told["rows"], told["files"], told["bytes"]) == (120, 1, file.size)
    assert told["events"] == before["count"].sum()
    assert told["seal"] == seal_of(file)
    assert checksum_of(tables, DAY) == told["checksum"]


def test_a_day_that_was_not_sealed_comes_again_the_next_night_until_it_is(
    home: Any, tables: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked() -> list[str | None]:
        at = datetime(2026, 3, 7, 2, tzinfo=UTC)
        context = build_schedule_context(scheduled_execution_time=at, resources={"platform": Platform()})
        return [request.partition_key for request in nightly(context)]

    state = get(home.db, "acme", DAY)
    assert set_checked(home.db, "acme", DAY, True, {}, state.version)
    with monkeypatch.context() as patched:
        patched.setattr(module.SealedFiles, "close", lambda _self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            seal_day(tables, DAY)
    assert asked() == ["2026-03-04", "2026-03-06"]
    seal_day(tables, DAY)
    assert asked() == ["2026-03-06"]
    assert get(home.db, "acme", DAY).sealed_version == state.version


def test_what_lands_during_a_seal_is_not_recorded_as_sealed(
    home: Any, tables: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = get(home.db, "acme", DAY).version
    build = module._build

    def land_meanwhile(*how: Any) -> Any:
        mark_open(home.db, "acme", [DAY])
        return build(*how)

    monkeypatch.setattr(module, "_build", land_meanwhile)
    seal_day(tables, DAY)
    state = get(home.db, "acme", DAY)
    assert (state.version, state.sealed_version) == (before + 1, before)


def test_sealing_again_changes_nothing(home: Any, tables: Any) -> None:
    seal_day(tables, DAY)
    before, told = files(tables), seals(home)
    assert seal_day(tables, DAY) == {"rows": 0, "files": 0, "bytes": 0}
    assert (files(tables), seals(home)) == (before, told)


@pytest.mark.parametrize(("range_rows", "file_bytes"), [(10, 1 << 20), (1_000, 1), (7, 1)])
def test_the_checksum_does_not_depend_on_how_the_rows_are_cut(
    home: Any, tables: Any, range_rows: int, file_bytes: int
) -> None:
    whole = module._build(tables, DAY, files(tables), 1_000, 1 << 30)[1]
    before = content(home)
    counts = seal_day(tables, DAY, range_rows=range_rows, file_bytes=file_bytes)
    assert (counts["files"] > 1) == (file_bytes == 1 and range_rows == 7)
    assert home.table("acme", "events").sort(ORDER).equals(before)
    assert checksum_of(tables, DAY) == whole["checksum"].item()


def test_a_long_seal_says_how_far_it_is(tables: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    with capture_logs() as logged:
        seal_day(tables, DAY, range_rows=30)
    said = [line for line in logged if line["event"] == "progress"]
    assert {(line["step"], line["tenant"], line["of"]) for line in said} == {("seal", "acme", 120)}
    for phase in ("sort", "write"):
        done = [line["done"] for line in said if line["phase"] == phase]
        assert len(done) > 1, phase
        assert done == sorted(done), phase
        assert done[-1] == 120, phase


def test_what_lands_while_a_day_is_sealed_stays_and_is_sealed_the_next_night(
    home: Any, tables: Any, new_load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = busy(new_load(agent_id="agt_00000000000000cc", hostname="late"))
    build = module._build

    def land_meanwhile(*how: Any) -> Any:
        built = build(*how)
        landed(home, late, node="node-3")
        return built

    monkeypatch.setattr(module, "_build", land_meanwhile)
    assert seal_day(tables, DAY)["rows"] == 120
    assert content(home).height == 180
    assert sorted(seal_of(file) is None for file in files(tables)) == [False, True]
    assert checksum_of(tables, DAY) is None, "rows have landed since"
    monkeypatch.setattr(module, "_build", build)
    assert seal_day(tables, DAY)["rows"] == 0, "once a night"
    tomorrow = home.db.clock() + timedelta(days=1)
    monkeypatch.setattr(home.db, "clock", lambda: tomorrow)
    before = content(home)
    assert seal_day(tables, DAY)["rows"] == 180
    assert content(home).equals(before)
    assert seals(home)["rows"] == 180
    assert checksum_of(tables, DAY) == seals(home)["checksum"]


def test_a_build_that_fails_leaves_no_file_behind(home: Any, tables: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.SealedFiles, "close", lambda _self: 1 / 0)
    before = files(tables)
    with pytest.raises(ZeroDivisionError):
        seal_day(tables, DAY, range_rows=7, file_bytes=1)
    assert files(tables) == before
    assert not list(home.path.rglob("sealed-*"))


def at(*, days: int = 0, hours: float = 0) -> datetime:
    return NIGHT + timedelta(days=days, hours=hours)


def file(name: str) -> StoredFile:
    return StoredFile(f"event_day=2026-03-04/{name}.parquet", DAY, 1, 1)


@pytest.mark.parametrize(
    ("names", "newest", "now", "expected"),
    [
        (["part-1"], None, at(hours=-0.01), False),
        (["part-1"], None, at(), True),
        ([], None, at(), False),
        (["sealed-a-00001", "sealed-a-00002"], ("a", at()), at(days=3), False),
        (["sealed-a-00001", "part-2"], ("a", at()), at(hours=23.9), False),
        (["sealed-a-00001", "part-2"], ("a", at()), at(days=1), True),
        (["sealed-a-00001", "part-2"], ("a", at(hours=10)), at(days=1), True),
        (["sealed-a-00001"], ("b", at()), at(), True),
        (["part-1"], ("b", at()), at(), True),
        (["sealed-a-00001"], None, at(), True),
    ],
)
def test_a_day_is_sealed_when_it_is_over_dirty_and_not_twice_a_night(
    names: list[str], newest: tuple[str, datetime] | None, now: datetime, expected: bool
) -> None:
    assert due(DAY, [file(name) for name in names], newest, now) is expected


def test_the_asset_seals_each_tenants_day_and_one_that_fails_stops_no_other(
    home: Any, new_load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, tenant in enumerate(("acme", "beta", "gamma")):
        home.tenant(tenant)
        home.stage(tenant, busy(new_load(agent_id=f"agt_00000000000000a{number}")))
    assert home.run("events").success
    put = module.SealedFiles.close

    def refuse(files: Any) -> Any:
        if files._tenant == "beta":
            raise OSError("disk full")
        return put(files)

    monkeypatch.setattr(module.SealedFiles, "close", refuse)
    result = home.run(day=DAY)
    assert result.success
    sealed = {tenant: not home.table(tenant, "seals").is_empty() for tenant in ("acme", "beta", "gamma")}
    assert sealed == {"acme": True, "beta": False, "gamma": True}
    assert home.table("beta", "activity")["events"].sum() == home.table("beta", "events")["count"].sum() > 0
    [told] = [
        event.materialization.metadata
        for event in result.get_asset_materialization_events()
        if event.asset_key.to_user_string() == "sealed_day"
    ]
    assert told["tenants_failed"].value == 1
    assert told["rows"].value == 120


def test_shards_hold_each_tenant_once_and_are_the_same_in_every_process() -> None:
    tenants = [f"tenant-{number}" for number in range(200)]
    shards = in_shards(tenants, 8)
    assert sorted(tenant for shard in shards.values() for tenant in shard) == sorted(tenants)
    assert set(shards) == set(range(8))
    assert in_shards(["acme"], 8) == {6: ["acme"]}
