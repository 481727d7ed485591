"""Leases: one holder at a time, and a fence that only grows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import text

from tenancy.database import Database, open_database
from tenancy.leases import Lease, LeaseHeldError, acquire, held_lease, release, renew
from tenancy.settings import TenancySettings

RACE = """
import os
from pathlib import Path
from tenancy.database import open_database
from tenancy.leases import acquire, release
from tenancy.settings import TenancySettings

def work(home, mark):
    db, taken = open_database(TenancySettings(home=Path(home))), 0
    while taken < 15:
        lease = acquire(db, "land/acme", str(os.getpid()), 60)
        if lease is None:
            continue
        taken += 1
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))  # fails if another is inside
        print(lease.fence)
        os.unlink(mark)
        release(db, lease)
"""


def take(db: Database, holder: str = "a", name: str = "land/acme") -> Lease | None:
    return acquire(db, name, holder, 60)


def test_only_one_holds_a_lease_and_its_own_name_is_no_exception(db: Database) -> None:
    lease = take(db, "a")
    assert (lease.name, lease.holder, lease.fence) == ("land/acme", "a", 1)
    assert take(db, "b") is None
    assert take(db, "a") is None


def test_leases_of_different_names_do_not_meet(db: Database) -> None:
    assert take(db, "a", "land/acme").fence == 1
    assert take(db, "a", "land/zeta").fence == 1


def test_a_released_lease_is_taken_with_a_greater_fence(db: Database) -> None:
    first = take(db)
    release(db, first)
    assert not renew(db, first)
    assert take(db, "b").fence == first.fence + 1


def test_an_expired_lease_is_taken_with_a_greater_fence(db: Database, clock: Any) -> None:
    first = take(db)
    clock.move(59.999)
    assert take(db, "b") is None
    clock.move(0.001)
    second = take(db, "b")
    assert second.fence == first.fence + 1
    assert not renew(db, first)


def test_a_renewed_lease_lasts_a_ttl_from_its_renewal(db: Database, clock: Any) -> None:
    lease = take(db)
    for _ in range(5):
        clock.move(59)
        assert renew(db, lease)
    clock.move(59)
    assert take(db, "b") is None
    clock.move(1)
    assert take(db, "b").fence == 2


def test_an_expired_lease_that_nobody_took_may_be_renewed(db: Database, clock: Any) -> None:
    lease = take(db)
    clock.move(3600)
    assert renew(db, lease)
    assert take(db, "b") is None


def test_a_stale_holder_can_neither_renew_nor_release_its_successors_lease(db: Database, clock: Any) -> None:
    stale = take(db, "a")
    clock.move(60)
    current = take(db, "b")
    assert not renew(db, stale)
    release(db, stale)
    assert take(db, "c") is None
    assert renew(db, current)


def test_a_clock_set_back_does_not_keep_a_dead_holders_lease_for_ever(db: Database, clock: Any) -> None:
    dead = take(db, "dead")
    clock.move(-86_400)
    alive = take(db, "alive")
    assert alive.fence == dead.fence + 1
    assert not renew(db, dead)


def test_clocks_that_differ_by_less_than_a_ttl_do_not_rob_a_living_holder(db: Database, clock: Any) -> None:
    holder = take(db, "ahead")
    clock.move(-59)
    assert take(db, "behind") is None
    assert renew(db, holder)


def test_a_clock_set_forward_costs_the_lease_but_never_the_order_of_fences(db: Database, clock: Any) -> None:
    first = take(db, "a")
    clock.move(86_400)
    second = take(db, "b")
    clock.move(-86_400)
    third = take(db, "c")
    assert [lease.fence for lease in (first, second, third)] == [1, 2, 3]
    assert [renew(db, lease) for lease in (first, second, third)] == [False, False, True]


def test_racing_processes_are_never_inside_together_and_never_share_a_fence(
    in_processes: Callable[..., list[str]], db: Database, tmp_path: Path
) -> None:
    written = in_processes(RACE, 3, db.settings.home, tmp_path / "inside")
    each = [[int(fence) for fence in lines.split()] for lines in written]
    assert sorted(fence for fences in each for fence in fences) == list(range(1, 46))
    assert all(fences == sorted(fences) for fences in each)


def test_a_fence_survives_reopening(db: Database, settings: TenancySettings, clock: Any) -> None:
    release(db, take(db))
    db.close()
    again = open_database(settings, clock)
    assert take(again).fence == 2
    again.close()


class LeaseMachine(RuleBasedStateMachine):
    """Two holders, any order of calls, a clock that goes anywhere: what a lease promises holds throughout."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        from datetime import UTC, datetime, timedelta

        self.moment, self.step = datetime(2026, 3, 1, tzinfo=UTC), timedelta
        self.db = open_database(TenancySettings(home=Path(self.folder.name)), lambda: self.moment)
        self.greatest = 0
        self.last: Lease | None = None
        self.old: list[Lease] = []

    @rule(holder=st.sampled_from("ab"))
    def acquire(self, holder: str) -> None:
        lease = take(self.db, holder)
        if lease is not None:
            assert lease.fence == self.greatest + 1
            if self.last is not None:
                self.old.append(self.last)
            self.greatest, self.last = lease.fence, lease

    @rule(seconds=st.sampled_from([-86_400, -90, -1, 1, 30, 60, 90, 86_400]))
    def move_the_clock(self, seconds: int) -> None:
        self.moment += self.step(seconds=seconds)

    @precondition(lambda self: self.last is not None)
    @rule()
    def renew(self) -> None:
        if renew(self.db, self.last):
            assert take(self.db, "c") is None

    @precondition(lambda self: self.last is not None)
    @rule()
    def release(self) -> None:
        release(self.db, self.last)
        assert not renew(self.db, self.last)

    @precondition(lambda self: self.old)
    @rule(data=st.data())
    def wake_a_stale_holder(self, data: Any) -> None:
        stale = data.draw(st.sampled_from(self.old))
        assert not renew(self.db, stale)
        release(self.db, stale)

    @invariant()
    def the_fence_is_the_greatest_ever_given(self) -> None:
        with self.db.reading() as session:
            assert (session.execute(text("SELECT fence FROM leases")).scalar() or 0) == self.greatest

    def teardown(self) -> None:
        self.db.close()
        self.folder.cleanup()


LeaseMachine.TestCase.settings = hypothesis_settings(max_examples=20, stateful_step_count=25, deadline=None)
TestWhateverHappensTheFenceGrows = LeaseMachine.TestCase


@pytest.fixture
def live(settings: TenancySettings) -> Any:
    """A database with the wall clock: the renewing thread lives in real time."""
    database = open_database(settings)
    yield database
    database.close()


def test_a_held_lease_is_renewed_while_it_is_held_and_released_after(live: Database) -> None:
    with held_lease(live, "land/acme", "a", 0.3) as held:
        assert held.fence == 1
        first = held.lease.expires_at
        while live.clock() <= first:
            assert acquire(live, "land/acme", "b", 0.3) is None
        assert not held.lost.is_set()
    assert acquire(live, "land/acme", "b", 60).fence == 2
    assert not [thread for thread in threading.enumerate() if thread.name == "lease land/acme"]


def test_a_lease_is_released_when_its_holder_fails(live: Database) -> None:
    with pytest.raises(RuntimeError, match="landing failed"), held_lease(live, "land/acme", "a", 60):
        raise RuntimeError("landing failed")
    assert acquire(live, "land/acme", "b", 60).fence == 2


def test_a_lease_that_is_held_is_not_entered(live: Database) -> None:
    with (
        held_lease(live, "land/acme", "a", 60),
        pytest.raises(LeaseHeldError, match="land/acme"),
        held_lease(live, "land/acme", "b", 60),
    ):
        pytest.fail("two are inside")


def test_a_holder_whose_lease_was_taken_is_told_and_leaves_the_successor_alone(live: Database) -> None:
    with held_lease(live, "land/acme", "a", 0.3) as held:
        with live.transaction() as session:
            session.execute(text("UPDATE leases SET fence = 2, holder = 'b', ttl_s = 60"))
        assert held.lost.wait(30)
    with live.reading() as session:
        assert session.execute(text("SELECT holder, fence FROM leases")).one() == ("b", 2)


def test_a_holder_that_cannot_renew_for_a_ttl_is_told_and_still_ends_in_peace(
    live: Database, away: Callable[..., AbstractContextManager[None]]
) -> None:
    with held_lease(live, "land/acme", "a", 0.3) as held, away(live):
        assert held.lost.wait(30)
    assert acquire(live, "land/acme", "b", 60).fence == 2
