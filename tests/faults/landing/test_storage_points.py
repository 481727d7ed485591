"""Faults around storage calls, at random: whoever dies, sleeps or is told too late, each event is there exactly once.

`--full` tries 200 moments for the killed, and every call for what is told too late; without it, some of each.
"""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from deltalake.exceptions import CommitFailedError

from lake import commits, stores
from lake import tables as lake_tables
from lake.commits import CommitError
from lake.settings import LakeSettings
from lake.stores import LocalStore, StoreError
from pipelines.landing import land_tenant
from tenancy.database import open_database
from tenancy.settings import TenancySettings

NewCase = Callable[[int], tuple[Any, Any]]
SMALL = {"group_rows": 4}
"""So that one landing commits several times over."""
KINDS = ("killed", "killed twice", "slept through its lease")


def land_much_later(home: Path) -> None:
    """Land when every lease of the dead has run out, twice: the second time there is nothing to do."""
    database = open_database(TenancySettings(home=home), lambda: datetime.now(UTC) + timedelta(days=3))
    try:
        land_tenant(database, "acme", "test", LakeSettings(home=home))
        assert land_tenant(database, "acme", "test", LakeSettings(home=home)).segments == 0
    finally:
        database.close()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_or_asleep_at_random_storage_calls_each_event_is_landed_once(
    new_case: NewCase, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    full = request.config.getoption("--full")
    number = 200 if full else 6
    dice = random.Random(5)
    runner, sent = new_case(0)
    total = runner.calls(**SMALL)
    sent.check()
    assert total > 200
    points = dice.sample(range(1, total + 1), min(number, total))
    points += [dice.randrange(1, total + 1) for _ in range(number - len(points))]
    done: Counter[str] = Counter()
    for case, point in enumerate(points, 1):
        kind = KINDS[case % 3]
        runner, sent = new_case(case)
        if kind == "slept through its lease":
            sleeper = runner.stop_at(point, **SMALL)
            land_much_later(sent.home)
            sent.check()
            code, said = runner.wake(sleeper)
            assert code in (0, 3), (point, said)
        else:
            code, said = runner.run(storage=True, die_at=point, **SMALL)
            assert code == -signal.SIGKILL, (point, said)
            if kind == "killed twice":
                again = dice.randrange(1, total // 2)
                code, said = runner.run(storage=True, die_at=again, later_days=1, **SMALL)
                assert code in (0, -signal.SIGKILL), (point, said)
            land_much_later(sent.home)
        sent.check()
        done[kind] += 1
    with capsys.disabled():
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(done.items()))
        print(f"\n{sum(done.values())} of {total} moments around storage calls: {told}; rows = ledger = sent in each")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_writers_that_race_without_a_lease_leave_each_event_once(
    new_case: NewCase, request: pytest.FixtureRequest
) -> None:
    dice = random.Random(7)
    for case in range(20 if request.config.getoption("--full") else 1):
        runner, sent = new_case(1000 + case)
        fences = (1, dice.choice((1, 2)))
        racers = [runner.stop_at(dice.randrange(1, 100), fence=fence, **SMALL) for fence in fences]
        for racer in racers:
            racer.send_signal(signal.SIGCONT)
        for racer in racers:
            said, _ = racer.communicate(timeout=120)
            assert racer.returncode in (0, 3), said
        code, said = runner.run(fence=9)
        assert code == 0, said
        sent.check()


class TooLate:
    """Does what it is asked, and at the nth call says that it had not: a time-out after the fact."""

    def __init__(self, at: int) -> None:
        self.calls, self.at = 0, at
        self.named: str | None = None

    def around(self, function: Callable[..., Any], name: str, error: Exception) -> Callable[..., Any]:
        def wrapped(*args: Any, **how: Any) -> Any:
            answer = function(*args, **how)
            self.calls += 1
            if self.calls == self.at:
                self.named = name
                raise error
            return answer

        return wrapped

    def patch(self, patch: pytest.MonkeyPatch, delta: Exception) -> None:
        late = StoreError("timed out")
        for owner, names, error in (
            (LocalStore, ("put_new", "get", "prefixes"), late),
            (commits, ("write_deltalake",), delta),
            (lake_tables, ("_create",), delta),
            (commits.DeltaTable, ("create_write_transaction",), delta),
            (stores.os, ("link", "fsync"), OSError(5, "timed out")),
        ):
            for name in names:
                patch.setattr(owner, name, self.around(getattr(owner, name), name, error))


ERRORS = (CommitFailedError("timed out"), OSError("timed out"))


@pytest.fixture
def points(request: pytest.FixtureRequest, new_case: NewCase, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Which calls of a landing are told too late."""
    _, sent = new_case(5000)
    count = TooLate(0)
    with monkeypatch.context() as patch:
        count.patch(patch, ERRORS[0])
        land_much_later(sent.home)
    every = range(1, count.calls + 1)
    return list(every) if request.config.getoption("--full") else sorted(random.Random(3).sample(every, 4))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("delta", ERRORS, ids=["conflict", "time-out"])
def test_a_store_that_times_out_after_it_has_committed_doubles_nothing(
    new_case: NewCase, monkeypatch: pytest.MonkeyPatch, points: list[int], delta: Exception
) -> None:
    failed: Counter[str] = Counter()
    for point in points:
        _, sent = new_case(6000 + point)
        late = TooLate(point)
        with monkeypatch.context() as patch:
            late.patch(patch, delta)
            try:
                land_much_later(sent.home)
            except (StoreError, CommitError, CommitFailedError, OSError) as error:
                failed[type(error).__name__] += 1
        assert late.named is not None, point
        land_much_later(sent.home)
        sent.check()
    assert failed, "some were told to whoever landed"
