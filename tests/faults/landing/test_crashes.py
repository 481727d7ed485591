"""Landing dies by kill -9 at every step there is; whoever lands next leaves each event exactly once."""

from __future__ import annotations

import random
import signal
import subprocess
from collections.abc import Callable
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pipelines.landing import Landed
from tenancy import days
from tenancy.database import Database

TABLES = ("events", "quarantine", "batches", "hosts")
STEPS = (
    "opened days#1",
    *(f"{word} {table}#1" for table in TABLES for word in ("commit", "committed")),
    "opened days#2",
    "dropped hint#1",
)


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_a_step_the_next_run_leaves_each_event_once(
    sent: Any, runner: Any, land: Callable[[], Landed], db: Database, step: str
) -> None:
    runner.die(step)
    day = date(2026, 3, 10)
    state = days.get(db, "acme", day)
    assert state is not None, "the day was opened before anything could be seen"
    assert days.set_checked(db, "acme", day, True, {}, state.version)
    landed = land()
    sent.check()
    if step not in ("opened days#2", "committed hosts#1", "dropped hint#1"):
        assert landed.segments == (0 if step in ("committed batches#1", "commit hosts#1") else 5)
    if step not in ("committed hosts#1", "dropped hint#1"):
        state = days.get(db, "acme", day)
        assert state is not None
        assert state.state == "open", "what was checked half-way is open again"
    assert land().segments == 0
    sent.check()


def test_the_steps_that_are_tried_are_all_there_are(sent: Any, runner: Any) -> None:
    code, said = runner.run()
    assert code == 0, said
    admitted = {f"admit {table}#1" for table in TABLES}
    assert set(runner.steps()) - admitted == {*STEPS, "dropped hint#2"}
    sent.check()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("committed events#1", "opened days#1"),
        ("committed events#1", "committed quarantine#1"),
        ("committed events#1", "commit batches#1"),
        ("committed quarantine#1", "committed batches#1"),
        ("committed batches#1", "committed hosts#1"),
    ],
)
def test_killed_again_while_it_repairs_the_third_run_leaves_each_event_once(
    sent: Any, runner: Any, land: Callable[[], Landed], first: str, second: str
) -> None:
    runner.die(first)
    runner.die(second, fence=5)
    land_with = runner.run(fence=6)
    assert land_with[0] == 0, land_with[1]
    sent.check()


def test_what_is_staged_between_crash_and_repair_does_not_change_the_repair(
    sent: Any, runner: Any, land: Callable[[], Landed], staging: ModuleType, home: Path
) -> None:
    runner.die("committed events#1")
    extra = staging.batch(20)
    staging.stage(home, "acme", "a0", 1, [extra])
    assert land().repaired
    sent.check((extra,))


def test_killed_at_any_moment_again_and_again_the_last_run_leaves_each_event_once(
    sent: Any, runner: Any, staging: ModuleType, home: Path
) -> None:
    dice = random.Random(2026)
    extra = [staging.batch(number, load="44444444-4444-4444-4444-444444444444") for number in range(1, 31)]
    for seq, one in enumerate(extra, 1):
        staging.stage(home, "acme", "n3", seq, [one])
    killed = 0
    for fence in range(1, 9):
        process = runner.start(fence=fence, group_rows=9)
        # Whole groups may land before it dies: the moment is wherever it happens to be then, mid-commit included.
        goal = len(runner.steps()) + dice.randrange(4, 40) if runner.log.exists() else 10
        while process.poll() is None and (not runner.log.exists() or len(runner.steps()) < goal):
            pass
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
    assert killed >= 3
    code, said = runner.run(fence=99)
    assert code == 0, said
    sent.check(tuple(extra))


@pytest.mark.parametrize("step", [f"{word} {table}" for table in TABLES for word in ("admit", "commit")])
def test_a_stale_holder_that_wakes_up_changes_nothing(
    sent: Any, runner: Any, land: Callable[[], Landed], staging: ModuleType, step: str
) -> None:
    stale = runner.stop(f"{step}#1")
    extra = staging.batch(20)
    staging.stage(sent.home, "acme", "n1", 4, [extra])
    landed = land()
    assert landed.repaired == (step.split()[1] in ("quarantine", "batches"))
    sent.check((extra,))
    code, said = runner.wake(stale)
    assert (code, said.split()[-1]) == (3, "StaleLeaseError"), said
    sent.check((extra,))
    assert land().segments == 0


def test_a_stale_holder_that_gets_its_commit_in_before_the_new_one_loses_nothing(
    sent: Any, runner: Any, land: Callable[[], Landed]
) -> None:
    old = runner.stop("commit events#1", fence=1)
    new = runner.stop("commit events#1", fence=2)
    # The old one commits first, and then both run at once on what it left.
    assert runner.wake(old)[0] in (0, 3)
    assert runner.wake(new)[0] in (0, 3)
    land()
    sent.check()


@pytest.mark.parametrize("round_", range(3))
def test_two_writers_that_race_without_a_lease_leave_each_event_once(
    sent: Any, runner: Any, land: Callable[[], Landed], staging: ModuleType, round_: int
) -> None:
    extra = [staging.batch(number, load="44444444-4444-4444-4444-444444444444") for number in range(1, 16)]
    for seq, one in enumerate(extra, 1):
        staging.stage(sent.home, "acme", "n3", seq, [one])
    fences = (1, 1 + round_)
    racers: list[subprocess.Popen[str]] = [runner.stop("opened days#1", fence=fence, group_rows=9) for fence in fences]
    for racer in racers:
        racer.send_signal(signal.SIGCONT)
    for racer in racers:
        said, _ = racer.communicate(timeout=120)
        assert racer.returncode in (0, 3), said
    land()
    sent.check(tuple(extra))
