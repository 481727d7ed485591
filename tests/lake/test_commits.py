from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

from lake import commits
from lake.commits import CommitConflictError, CommitError, StaleLeaseError, Writer
from lake.durable import sync_file
from lake.frames import frame_schema, to_rows
from lake.reads import scan
from lake.schema import TABLES
from lake.settings import LakeSettings
from lake.tables import create_table, open_table, table_uri


def rows(*revisions: int, day: int = 1) -> pl.DataFrame:
    moment = datetime(2026, 1, day, tzinfo=UTC)
    return pl.DataFrame(
        [(date(2026, 1, day), "day", revision, "outbox", "x", "r", "d", moment) for revision in revisions],
        schema=frame_schema("deliveries"),
        orient="row",
    )


def there(settings: LakeSettings) -> list[int]:
    return sorted(scan("acme", "deliveries", settings=settings).collect()["revision"])


def test_a_commit_carries_the_fence_and_how_far_each_node_is(settings: LakeSettings) -> None:
    writer = Writer("acme", 7, settings)
    assert writer.versions("deliveries", ["n1"]) == {"n1": 0}
    writer.append("deliveries", rows(1), {"n1": 4, "n2": 2}, {"n1": 0, "n2": 0})
    assert writer.versions("deliveries", ["n1", "n2", "n3"]) == {"n1": 4, "n2": 2, "n3": 0}
    handle = open_table("acme", "deliveries", settings)
    assert handle is not None
    assert handle.transaction_version("lease") == 7


def test_a_commit_without_rows_still_says_how_far_the_nodes_are(settings: LakeSettings) -> None:
    writer = Writer("acme", 1, settings)
    writer.append("deliveries", rows(), {"n1": 1})
    assert writer.versions("deliveries", ["n1"]) == {"n1": 1}
    assert there(settings) == []


def test_a_commit_whose_answer_was_lost_is_made_once_and_is_durable(
    settings: LakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []

    def lose(*given: Any, **how: Any) -> None:
        write_deltalake(*given, **how)
        raise DeltaError("no answer")

    def sync(path: Path) -> None:
        sync_file(path)
        synced.append(path.name)

    create_table("acme", "deliveries", settings)
    monkeypatch.setattr(commits, "write_deltalake", lose)
    monkeypatch.setattr(commits, "sync_file", sync)
    version = Writer("acme", 1, settings).append("deliveries", rows(1), {"n1": 1})
    assert there(settings) == [1]
    assert f"{version:020d}.json" in synced
    assert sum(name.endswith(".parquet") for name in synced) == 1


def test_the_same_progress_is_never_committed_twice(settings: LakeSettings) -> None:
    writer = Writer("acme", 1, settings)
    writer.append("deliveries", rows(1), {"n1": 3}, {"n1": 0})
    for versions, expected in (({"n1": 3}, None), ({"n1": 2}, None), ({"n1": 4}, {"n1": 2}), ({"n1": 4}, {})):
        with pytest.raises(CommitConflictError, match="stands at 3"):
            writer.append("deliveries", rows(2), versions, expected)
    writer.append("deliveries", rows(2), {"n1": 4}, {"n1": 3})
    assert there(settings) == [1, 2]


def test_a_smaller_fence_is_refused_by_every_kind_of_commit(settings: LakeSettings) -> None:
    Writer("acme", 2, settings).append("deliveries", rows(1))
    stale = Writer("acme", 1, settings)
    with pytest.raises(StaleLeaseError):
        stale.append("deliveries", rows(2))
    with pytest.raises(StaleLeaseError):
        stale.replace("deliveries", rows(2))
    Writer("acme", 2, settings).append("deliveries", rows(3))
    assert there(settings) == [1, 3]


class Interposed:
    """Lets something happen between a writer's look at a table and its commit, once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.real = commits.write_deltalake
        self.happening: list[object] = []
        monkeypatch.setattr(commits, "write_deltalake", self)

    def __call__(self, *args: object, **how: object) -> None:
        if self.happening:
            self.happening.pop()()  # type: ignore[operator]
        self.real(*args, **how)  # type: ignore[call-overload]


def test_a_holder_that_sleeps_between_look_and_commit_is_refused(
    settings: LakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_table("acme", "deliveries", settings)
    interposed = Interposed(monkeypatch)
    interposed.happening.append(lambda: Writer("acme", 2, settings).append("deliveries", rows(1), {"n1": 1}))
    with pytest.raises(StaleLeaseError):
        Writer("acme", 1, settings).append("deliveries", rows(1), {"n1": 1})
    assert there(settings) == [1]


def test_a_holder_whose_elder_commits_first_must_decide_anew(
    settings: LakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_table("acme", "deliveries", settings)
    interposed = Interposed(monkeypatch)
    interposed.happening.append(lambda: Writer("acme", 1, settings).append("deliveries", rows(1), {"n1": 1}))
    with pytest.raises(CommitConflictError):
        Writer("acme", 2, settings).append("deliveries", rows(1, 2), {"n1": 2}, {"n1": 0})
    assert there(settings) == [1]


def test_an_append_is_tried_again_after_a_commit_that_changed_nothing_it_rests_on(
    settings: LakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer("acme", 1, settings)
    writer.append("deliveries", rows(1), {"n1": 1})
    interposed = Interposed(monkeypatch)
    interposed.happening.append(lambda: writer.replace("deliveries", rows(1, day=2), "period_start = '2026-01-02'"))
    writer.append("deliveries", rows(2), {"n1": 2}, {"n1": 1})
    assert there(settings) == [1, 1, 2]


def test_a_writer_that_looks_again_sees_what_another_has_committed(settings: LakeSettings) -> None:
    writer = Writer("acme", 1, settings)
    assert writer.scan("deliveries").collect().is_empty()
    writer.append("deliveries", rows(1), {"n1": 1})
    assert writer.scan("deliveries").collect()["revision"].to_list() == [1]
    Writer("acme", 2, settings).append("deliveries", rows(2), {"n1": 2})
    assert writer.versions("deliveries", ["n1"]) == {"n1": 2}
    assert sorted(writer.scan("deliveries").collect()["revision"]) == [1, 2]
    with pytest.raises(StaleLeaseError):
        writer.append("deliveries", rows(3), {"n1": 3})


def test_a_replacement_is_never_tried_again(settings: LakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer("acme", 1, settings)
    writer.append("deliveries", rows(1))
    interposed = Interposed(monkeypatch)
    interposed.happening.append(lambda: writer.append("deliveries", rows(2)))
    with pytest.raises(CommitConflictError):
        writer.replace("deliveries", rows(9))
    assert there(settings) == [1, 2]


def test_a_replacement_touches_its_partition_only(settings: LakeSettings) -> None:
    writer = Writer("acme", 1, settings)
    writer.append("deliveries", pl.concat([rows(1), rows(2, day=2)]))
    writer.replace("deliveries", rows(3, 4, day=2), "period_start = '2026-01-02'")
    assert there(settings) == [1, 3, 4]
    writer.replace("deliveries", rows(5))
    assert there(settings) == [5]


def test_writers_that_race_never_double_or_lose_a_step(settings: LakeSettings) -> None:
    """Each takes the next number by what it reads; together they must count without gap or double."""

    def count(fence: int) -> None:
        writer = Writer("acme", fence, settings)
        for _ in range(12):
            try:
                at = writer.versions("deliveries", ["n1"])["n1"]
                writer.append("deliveries", rows(at + 1), {"n1": at + 1}, {"n1": at})
            except CommitError:
                continue

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, [1, 1, 2, 3]))
    final = Writer("acme", 9, settings).versions("deliveries", ["n1"])["n1"]
    assert final >= 4
    assert there(settings) == list(range(1, final + 1))


def test_progress_and_fence_survive_checkpoints_and_the_clean_up_of_the_log(settings: LakeSettings) -> None:
    writer = Writer("acme", 3, settings)
    for seq in range(1, 55):
        writer.append("deliveries", rows(seq), {"n1": seq})
    folder = settings.home / "lake" / "acme" / "deliveries" / "_delta_log"
    checkpoints = list(folder.glob("*.checkpoint.parquet"))
    assert checkpoints, "the table was checkpointed on the way"
    newest = int(max(checkpoints).name.split(".")[0])
    for log in folder.glob("*.json"):
        if int(log.stem) <= newest:
            log.unlink()
    assert writer.versions("deliveries", ["n1"]) == {"n1": 54}
    with pytest.raises(StaleLeaseError):
        Writer("acme", 2, settings).append("deliveries", rows(1))
    assert there(settings) == list(range(1, 55))


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (rows(1).drop("digest"), "digest"),
        (rows(1).with_columns(more=pl.lit(1)), "more"),
        (rows(1).with_columns(digest=pl.lit(None, pl.String)), "null"),
        (rows(1).with_columns(revision=pl.lit("x")), "x"),
    ],
)
def test_a_frame_that_is_not_the_tables_is_refused(settings: LakeSettings, broken: pl.DataFrame, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Writer("acme", 1, settings).append("deliveries", broken)
    assert open_table("acme", "deliveries", settings) is None


def test_the_log_keeps_no_bounds_of_columns_that_pruning_does_not_need(settings: LakeSettings) -> None:
    Writer("acme", 1, settings).append("deliveries", rows(1))
    folder = settings.home / "lake" / "acme" / "deliveries" / "_delta_log"
    lines = [json.loads(line) for line in (folder / f"{1:020d}.json").read_text().splitlines()]
    (stats,) = [json.loads(line["add"]["stats"]) for line in lines if "add" in line]
    assert set(stats["minValues"]) == set(stats["maxValues"]) == set(TABLES["deliveries"].statistics)


@pytest.mark.parametrize("name", sorted(TABLES))
def test_every_table_can_be_made_and_read_empty(settings: LakeSettings, name: str) -> None:
    assert scan("acme", name, settings=settings).collect().schema == frame_schema(name)
    create_table("acme", name, settings)
    Writer("acme", 1, settings).append(name, pl.DataFrame(schema=frame_schema(name)))
    assert scan("acme", name, settings=settings).collect().schema == frame_schema(name)
    handle = open_table("acme", name, settings)
    assert handle is not None
    protocol = handle.protocol()
    assert (protocol.min_reader_version, protocol.min_writer_version) == (1, 2), "any reader can read it"


@pytest.mark.parametrize("tenant", ["../beta", "beta/../acme", "Acme", "", "a", "acme/events"])
def test_a_tenant_is_an_id_and_never_a_path(settings: LakeSettings, tenant: str) -> None:
    with pytest.raises(ValueError, match="not a tenant"):
        table_uri(tenant, "events", settings)


def test_days_outside_the_bounds_are_not_even_opened(settings: LakeSettings) -> None:
    writer = Writer("acme", 1, settings)
    for day in (1, 2, 3):
        writer.append("deliveries", rows(day, day=day))
    folder = settings.home / "lake" / "acme" / "deliveries"
    for shut in (1, 3):
        for file in (folder / f"period_start=2026-01-0{shut}").iterdir():
            file.unlink()
    bounds = {"first_day": date(2026, 1, 2), "last_day": date(2026, 1, 2)}
    assert scan("acme", "deliveries", **bounds, settings=settings).collect()["revision"].to_list() == [2]
    with pytest.raises(ValueError, match="by day"):
        scan("acme", "hosts", first_day=date(2026, 1, 1), settings=settings)


def test_another_writer_of_delta_is_noticed(settings: LakeSettings, tmp_path: Path) -> None:
    """An append from elsewhere, without our transaction, neither hides nor harms ours."""
    writer = Writer("acme", 1, settings)
    writer.append("deliveries", rows(1), {"n1": 1})
    write_deltalake(DeltaTable(str(tmp_path / "lake/acme/deliveries")), to_rows(rows(8), "deliveries"), mode="append")
    writer.append("deliveries", rows(2), {"n1": 2}, {"n1": 1})
    assert there(settings) == [1, 2, 8]


def test_a_commit_that_returned_is_durable_its_files_before_its_log(
    settings: LakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer("acme", 1, settings)
    writer.append("deliveries", rows(1))
    folder = settings.home / "lake" / "acme" / "deliveries"
    before = set(folder.rglob("*.parquet"))
    synced: list[Path] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    version = writer.append("deliveries", rows(2, day=2))
    (added,) = set(folder.rglob("*.parquet")) - before
    assert synced[:2] == [added, folder / "_delta_log" / f"{version:020d}.json"]
    assert set(synced[2:]) == {folder, added.parent, folder / "_delta_log"}


def test_statistics_tell_where_a_number_cannot_be_and_never_hide_where_it_is(settings: LakeSettings) -> None:
    writer, moment = Writer("acme", 1, settings), datetime(2026, 1, 1, tzinfo=UTC)
    assert not writer.may_hold("acts", "seq", 1, 9), "there is no table"
    for numbers in ((4, 7), (9,)):
        acts = [(number, moment, "a", "b", "c", "{}", "d", moment.date()) for number in numbers]
        writer.append("acts", pl.DataFrame(acts, schema=frame_schema("acts"), orient="row"))
    asked = ((1, 3), (3, 4), (5, 6), (7, 9), (8, 8), (9, 12), (10, 12))
    told = {span: writer.may_hold("acts", "seq", *span) for span in asked}
    assert [span for span, may in told.items() if not may] == [(1, 3), (8, 8), (10, 12)]
    assert writer.may_hold("acts", "digest", 5, 5), "a column without statistics may hold anything"
