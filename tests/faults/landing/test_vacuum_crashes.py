"""Vacuum takes what the dead have left and what was replaced, dies at any file, and never takes what a table names."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable

from lake.files import read_files
from lake.settings import LakeSettings
from pipelines.landing import Landed
from pipelines.retention.vacuum import vacuum
from pipelines.seal import seal_day
from pipelines.tables import TenantTables
from tenancy.database import Database

DAY = date(2026, 3, 10)
AT_ONCE = timedelta(0)


class Day:
    """A day of three landings; what its tables must come to, and which of its files no version names."""

    def __init__(self, home: Path, staging: ModuleType, land: Callable[[], Landed], db: Database) -> None:
        self.home, self.staging, self.db = home, staging, db
        self.sent = [staging.batch(number, received=staging.later(seconds=number)) for number in range(1, 7)]
        for seq in (1, 2, 3):
            staging.stage(home, "acme", "n1", seq, self.sent[2 * seq - 2 : 2 * seq])
            land()

    @property
    def tables(self) -> TenantTables:
        return TenantTables(self.db, "acme", "test", LakeSettings(home=self.home))

    @property
    def folder(self) -> Path:
        return self.home / "lake" / "acme" / "events"

    def named(self) -> set[str]:
        return {file.path for file in read_files("acme", "events", DAY, LakeSettings(home=self.home))}

    def there(self) -> set[str]:
        found = (path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file())
        return {path for path in found if not path.startswith("_")}

    def check(self) -> None:
        self.staging.assert_each_once(self.home, "acme", self.sent)
        assert self.named() <= self.there()

    def age(self, days: float = 8) -> None:
        """Let every file look as if it had been put days ago."""
        then = time.time() - days * 86400
        for path in self.folder.rglob("*"):
            os.utime(path, (then, then))


@pytest.fixture
def day(home: Path, staging: ModuleType, db: Database, land: Callable[[], Landed]) -> Day:
    return Day(home, staging, land, db)


@pytest.mark.parametrize("step", ["has put file#2", "has put file#6", "commit seals#1", "commit events#1"])
def test_what_a_killed_seal_left_goes_when_it_is_old_and_not_before(day: Day, runner: Any, step: str) -> None:
    runner.die(step, seal=DAY.isoformat())
    left = day.there() - day.named()
    assert left
    assert all("sealed-" in path for path in left)
    vacuum(day.tables)
    assert day.there() - day.named() == left, "a seal may be about to name them"
    day.age()
    assert vacuum(day.tables)["files_vacuumed"] == len(left)
    assert day.there() == day.named()
    day.check()
    assert seal_day(day.tables, DAY)["rows"] == 18
    day.check()


def test_what_a_killed_landing_left_goes(day: Day, runner: Any, staging: ModuleType) -> None:
    extra = staging.batch(20)
    staging.stage(day.home, "acme", "n2", 1, [extra])
    runner.die("commit events#1")
    half = day.folder / f"event_day={DAY}" / f".part-x.parquet.{'0' * 32}"
    half.write_bytes(b"half")
    strange = day.folder / f"event_day={DAY}" / "notes.txt"
    strange.write_text("somebody's")
    day.age()
    assert vacuum(day.tables)["files_vacuumed"] == 2
    assert day.there() - day.named() == {strange.relative_to(day.folder).as_posix()}, "what is not ours is left alone"
    day.check()


def test_a_reader_of_an_older_version_is_served_until_its_files_are_seven_days_replaced(
    day: Day, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = DeltaTable(str(day.folder))
    before = pl.scan_delta(old).sort("path", "time").collect()
    seal_day(day.tables, DAY)
    replaced = day.there() - day.named()
    assert len(replaced) == 3
    day.age(30)
    assert vacuum(day.tables)["files_vacuumed"] == 0, "they are old, but were replaced just now"
    assert pl.scan_delta(old).sort("path", "time").collect().equals(before)
    day.check()
    assert vacuum(day.tables, AT_ONCE)["files_vacuumed"] >= 3
    assert day.there() == day.named()
    day.check()


def test_each_file_goes_by_the_time_at_which_it_was_replaced(
    day: Day, staging: ModuleType, land: Callable[[], Landed], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lake import files

    class Earlier(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) - timedelta(days=8)

    with monkeypatch.context() as patched:
        patched.setattr(files, "datetime", Earlier)
        seal_day(day.tables, DAY)
    gone = day.there() - day.named()
    sealed = day.named()
    seal_day(day.tables, DAY, again=True)
    assert vacuum(day.tables)["files_vacuumed"] == len(gone) == 3
    assert day.there() == day.named() | sealed, "those that were replaced today are kept"
    day.check()


@pytest.mark.parametrize("step", ["delete file#1", "delete file#2", "delete file#5", "commit events#1"])
def test_a_vacuum_that_is_killed_leaves_a_whole_table_and_the_next_goes_on(day: Day, runner: Any, step: str) -> None:
    runner.die("has put file#2", seal=DAY.isoformat())
    assert seal_day(day.tables, DAY)["rows"] == 18
    assert len(day.there() - day.named()) == 5
    before = len(runner.steps())
    runner.die(step, vacuum=True)
    deleted = max(0, sum(one.startswith("delete") for one in runner.steps()[before:]) - 1)
    assert len(day.there() - day.named()) == 5 - deleted
    day.check()
    vacuum(day.tables, AT_ONCE)
    assert day.there() == day.named()
    day.check()


@pytest.mark.parametrize("step", ["has put file#6", "admit seals#1", "commit events#1"])
def test_a_sealer_that_slept_while_its_files_were_vacuumed_names_none_of_them(day: Day, runner: Any, step: str) -> None:
    sleeper = runner.stop(step, seal=DAY.isoformat())
    day.age()
    assert vacuum(day.tables)["files_vacuumed"] == 6
    code, said = runner.wake(sleeper)
    assert code == 3, said
    assert said.split()[-1] in {"CommitError", "StaleLeaseError"}, said
    day.check()
    assert seal_day(day.tables, DAY)["rows"] == 18
    day.check()


def test_a_lander_that_slept_while_its_file_was_vacuumed_does_not_name_it(
    day: Day, runner: Any, staging: ModuleType, land: Callable[[], Landed]
) -> None:
    extra = staging.batch(20)
    staging.stage(day.home, "acme", "n2", 1, [extra])
    sleeper = runner.stop("commit events#1")
    day.age()
    assert vacuum(day.tables)["files_vacuumed"] == 1
    code, said = runner.wake(sleeper)
    assert (code, said.split()[-1]) == (3, "StaleLeaseError"), said
    day.check()
    assert land().rows == 3
    day.sent.append(extra)
    day.check()


def test_rollups_and_ledgers_are_vacuumed_too_and_stay_whole(day: Day, staging: ModuleType) -> None:
    from pipelines.rollups.day import ALL

    for _ in range(3):
        for roll in ALL.values():
            roll(day.tables, DAY)
    before = {name: staging.read(day.home, "acme", name) for name in (*ALL, "batches", "hosts", "quarantine")}
    assert vacuum(day.tables)["files_vacuumed"] == 0
    assert vacuum(day.tables, AT_ONCE)["files_vacuumed"] >= 2 * 5
    for name, rows in before.items():
        assert staging.read(day.home, "acme", name).equals(rows), name
    assert vacuum(day.tables, AT_ONCE)["files_vacuumed"] == 0
    day.check()
