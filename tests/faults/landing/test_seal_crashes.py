"""Sealing dies by kill -9 at every step there is, or races landing and itself; each row stays exactly once."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest

from lake.checksum import RowsChecksum
from lake.files import read_files
from lake.frames import to_rows
from lake.ordering import ORDER
from lake.sealed import seal_of
from lake.settings import LakeSettings
from pipelines.landing import Landed
from pipelines.seal import checksum_of, seal_day
from pipelines.tables import TenantTables
from tenancy.database import Database, open_database
from tenancy.settings import TenancySettings

DAY = date(2026, 3, 10)
PUTS = 6
STEPS = (
    *(f"{word}#{number}" for number in range(1, PUTS + 1) for word in ("put file", "has put file")),
    *(f"{word} {table}#1" for table in ("seals", "events") for word in ("admit", "commit", "committed")),
)


class Day:
    """What was landed of a day, and what its tables must come to."""

    def __init__(self, home: Path, staging: ModuleType, land: Callable[[], Landed]) -> None:
        self.home, self.staging, self.land = home, staging, land
        self.sent = [staging.batch(number, received=staging.later(seconds=number)) for number in range(1, 7)]
        for seq in (1, 2, 3):
            staging.stage(home, "acme", "n1", seq, self.sent[2 * seq - 2 : 2 * seq])
            land()

    def add(self, number: int, node: str) -> None:
        """Stage one more batch, of the node's next segment."""
        extra = self.staging.batch(number)
        self.sent.append(extra)
        self.staging.stage(self.home, "acme", node, 1, [extra])

    def check(self) -> None:
        """Hold the tables against what was sent."""
        self.staging.assert_each_once(self.home, "acme", self.sent)

    def rows(self) -> pl.DataFrame:
        rows: pl.DataFrame = self.staging.read(self.home, "acme", "events")
        return rows

    def checksum(self) -> str:
        told = RowsChecksum("events")
        told.add(to_rows(self.rows().sort(ORDER), "events"))
        return told.hexdigest()

    def tables(self, db: Database) -> TenantTables:
        return TenantTables(db, "acme", "test", LakeSettings(home=self.home))

    def seals(self) -> set[str | None]:
        return {seal_of(file) for file in read_files("acme", "events", DAY, LakeSettings(home=self.home))}

    def seal_tomorrow(self) -> None:
        """Seal the next night and see that all is sealed and nothing else has changed."""
        later = open_database(TenancySettings(home=self.home), lambda: datetime.now(UTC) + timedelta(days=2))
        try:
            seal_day(self.tables(later), DAY)
            self.check()
            assert checksum_of(self.tables(later), DAY) == self.checksum()
            assert None not in self.seals()
        finally:
            later.close()


@pytest.fixture
def day(home: Path, staging: ModuleType, db: Database, land: Callable[[], Landed]) -> Day:
    return Day(home, staging, land)


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_a_step_the_day_is_whole_and_the_next_run_seals_it(
    day: Day, runner: Any, db: Database, step: str
) -> None:
    runner.die(step, seal=DAY.isoformat())
    day.check()
    assert day.seals() == {None} if step != "committed events#1" else None not in day.seals()
    sealed = seal_day(day.tables(db), DAY)["rows"]
    assert sealed == (0 if step == "committed events#1" else 18)
    day.check()
    assert len(day.seals() - {None}) == 1
    assert checksum_of(day.tables(db), DAY) == day.checksum()
    day.add(20, "n2")
    assert day.land().rows == 3
    day.seal_tomorrow()


def test_the_steps_that_are_tried_are_all_there_are(day: Day, runner: Any) -> None:
    before = len(runner.steps()) if runner.log.exists() else 0
    code, said = runner.run(seal=DAY.isoformat())
    assert code == 0, said
    assert runner.steps()[before:] == list(STEPS)
    day.check()


@pytest.mark.parametrize("step", ["put file#1", "has put file#6"])
def test_what_lands_while_files_are_built_is_kept_beside_them(day: Day, runner: Any, step: str) -> None:
    sealing = runner.stop(step, seal=DAY.isoformat())
    day.add(20, "n2")
    assert day.land().rows == 3
    assert day.land().segments == 0
    code, said = runner.wake(sealing)
    assert (code, said.split()[-1]) == (0, "18"), said
    day.check()
    assert len(day.seals()) == 2
    assert None in day.seals(), "the day is dirty"
    day.seal_tomorrow()


@pytest.mark.parametrize("step", ["admit seals#1", "commit seals#1", "admit events#1", "commit events#1"])
def test_a_sealer_whose_lease_ran_out_while_another_landed_changes_nothing(day: Day, runner: Any, step: str) -> None:
    stale = runner.stop(step, seal=DAY.isoformat())
    day.add(20, "n2")
    assert day.land().rows == 3
    code, said = runner.wake(stale)
    if step.endswith("seals#1"):
        # Landing has not written to `seals`: what stops the stale sealer is the fence in `events`.
        assert "StaleLeaseError" in said, said
    assert (code, said.split()[-1]) == (3, "StaleLeaseError"), said
    day.check()
    assert day.seals() == {None}
    assert not list((day.home / "lake").rglob("sealed-*")), "what was put in vain is gone"
    day.seal_tomorrow()


@pytest.mark.parametrize(
    ("step", "fences"),
    [
        ("has put file#6", (11, 11)),
        ("has put file#6", (12, 11)),
        ("commit seals#1", (11, 11)),
        ("commit seals#1", (11, 12)),
        ("commit events#1", (11, 11)),
        ("commit events#1", (11, 12)),
    ],
)
def test_two_sealers_without_a_lease_leave_each_row_once(
    day: Day, runner: Any, db: Database, fences: tuple[int, int], step: str
) -> None:
    racers = [runner.stop(step, seal=DAY.isoformat(), fence=fence) for fence in fences]
    for racer in racers:
        racer.send_signal(signal.SIGCONT)
    for racer in racers:
        said, _ = racer.communicate(timeout=120)
        assert racer.returncode in (0, 3), said
    day.check()
    assert len(day.seals()) == 1
    for _ in range(20):
        with day.tables(db).writer():
            pass  # until the lease's own fences are past those of the racers
    day.seal_tomorrow()


def test_killed_at_any_moment_again_and_again_while_others_land_each_row_stays_once(day: Day, runner: Any) -> None:
    dice = random.Random(2026)
    killed = 0
    for number in range(4):
        goal = (len(runner.steps()) if runner.log.exists() else 0) + dice.randrange(1, 9)
        process = runner.start(seal=DAY.isoformat(), fence=2_000 + 2 * number, later_days=number)
        while process.poll() is None and (not runner.log.exists() or len(runner.steps()) < goal):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
        day.add(30 + number, f"n{3 + number}")
        code, said = runner.run(fence=2_001 + 2 * number)
        assert code == 0, said
        day.check()
    assert killed >= 2
    code, said = runner.run(seal=DAY.isoformat(), fence=3_000, later_days=9)
    assert code == 0, said
    day.check()
    assert len(day.seals()) == 1
