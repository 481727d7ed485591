"""The running day's rollups: provisional every five minutes, replaced when the day is closed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from pipelines.provisional import roll_running_day
from pipelines.resources import Platform
from pipelines.rollups.actors import processes, top_paths, users
from pipelines.rollups.day import ALL
from pipelines.rollups.sensitive import sensitive
from tenancy.leases import LeaseHeldError, held_lease

DAY = date(2026, 3, 4)
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
YESTERDAY = NOON - timedelta(days=1)


def touch(load: Any, at: datetime, **columns: Any) -> Any:
    load.do(at, path="/etc/shadow", count=2, **columns)
    load.do(at + timedelta(seconds=1), path="/srv/a", process="rsync", **columns)
    load.cut(at + timedelta(seconds=5))
    return load


@pytest.fixture
def at(home: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], None]:
    """Set the clock."""
    return lambda moment: monkeypatch.setattr(home.db, "clock", lambda: moment)


def landed(home: Any, *loads: Any, **how: Any) -> None:
    from pipelines.landing import land_tenant

    home.stage("acme", *loads, **how)
    land_tenant(home.db, "acme", "test", home.lake)


def test_the_running_day_is_rolled_up_and_no_other(
    home: Any, load: Any, new_load: Any, at: Callable[[datetime], None]
) -> None:
    home.tenant("acme")
    at(NOON + timedelta(minutes=1))
    landed(home, touch(new_load(agent_id="agt_00000000000000bb"), YESTERDAY), touch(load, NOON))
    outcome = roll_running_day(Platform(), home.db, "run")
    assert set(outcome.done) == {"acme"}
    for table in ALL:
        assert set(home.table("acme", table)["event_day"]) == {DAY}, table
    assert home.table("acme", "top_paths").sort("rank")["path"].to_list() == ["/etc/shadow", "/srv/a"]
    assert home.table("acme", "new_behaviour")["path"].to_list() == ["/etc/shadow"]


def test_a_tenant_without_news_is_left_alone(home: Any, load: Any, at: Callable[[datetime], None]) -> None:
    home.tenant("acme")
    home.tenant("quiet")
    at(NOON)
    landed(home, touch(load, NOON))
    at(NOON + timedelta(minutes=9))
    assert set(roll_running_day(Platform(), home.db, "run").done) == {"acme"}
    at(NOON + timedelta(minutes=11))
    assert roll_running_day(Platform(), home.db, "run").done == {}


def test_one_run_at_a_time_rolls_up(home: Any) -> None:
    with held_lease(home.db, "provisional-run", "other", 60), pytest.raises(LeaseHeldError):
        roll_running_day(Platform(), home.db, "run")


def test_what_was_provisional_is_replaced_when_the_day_is_closed(
    home: Any, load: Any, new_load: Any, at: Callable[[datetime], None]
) -> None:
    home.tenant("acme")
    at(NOON + timedelta(minutes=1))
    landed(home, touch(load, NOON))
    roll_running_day(Platform(), home.db, "run")
    landed(home, touch(new_load(agent_id="agt_00000000000000bb"), NOON, user="bob"), node="node-2")
    assert home.table("acme", "users").height == 1
    assert home.run(day=DAY).success
    events = home.table("acme", "events").lazy()
    for table, rollup in {
        "top_paths": top_paths, "processes": processes, "users": users, "sensitive": sensitive
    }.items():  # fmt: skip
        there = home.table("acme", table)
        assert there.sort(pl.all()).equals(rollup(events).sort(pl.all())), table
        assert there["events"].sum() == (4 if table == "sensitive" else 6)
    assert home.table("acme", "new_behaviour").height == 2


def test_a_touch_of_the_day_before_is_not_new(home: Any, load: Any, new_load: Any) -> None:
    home.tenant("acme")
    home.stage("acme", touch(load, YESTERDAY), touch(new_load(), NOON, exe="/tmp/python3"), node="node-2")
    assert home.run("events").success
    for day in (YESTERDAY.date(), DAY):
        assert home.run(day=day).success
    new = home.table("acme", "new_behaviour").select("event_day", "exe").sort("event_day").rows()
    assert new == [(YESTERDAY.date(), None), (DAY, "/tmp/python3")]
