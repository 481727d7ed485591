"""Two live loads under one agent id raise an alarm; a restart, a kill and a batch sent again do not."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from pipelines.clones import find_clones, suspects
from tenancy.alarms import list_alarms
from tenancy.days import get

DAY = date(2026, 3, 4)
NINE = datetime(2026, 3, 4, 9, tzinfo=UTC)
BEAT = timedelta(seconds=30)


def beat(load: Any, *numbers: float, final: bool = False) -> Any:
    """Cut a batch at each of these beats after nine; the last may say goodbye."""
    for number in numbers:
        load.do(NINE + number * BEAT)
        load.cut(NINE + number * BEAT, final=final and number == numbers[-1])
    return load


def told(*loads: Any) -> list[tuple[str, set[str]]]:
    clones = find_clones(pl.concat([load.batches for load in loads]))
    return [(clone.agent_id, {clone.first_load, clone.second_load}) for clone in clones]


def test_loads_that_take_turns_are_told_once(new_load: Any) -> None:
    one, two = beat(new_load(), 0, 2, 4, 6), beat(new_load(), 1, 3, 5, 7)
    assert told(one, two) == [(one.agent_id, {one.load_id, two.load_id})]


def test_one_batch_of_another_machine_between_two_is_enough(new_load: Any) -> None:
    assert len(told(beat(new_load(), 0, 2), beat(new_load(), 1))) == 1


def test_each_pair_of_three_machines_is_told(new_load: Any) -> None:
    assert len(told(*(beat(new_load(), at, at + 3, at + 6) for at in (0, 1, 2)))) == 3


def test_a_restart_and_a_kill_are_no_clones(new_load: Any) -> None:
    stopped, killed, now = beat(new_load(), 0, 1, 2, final=True), beat(new_load(), 2.1, 3, 4), beat(new_load(), 4.1, 5)
    assert told(stopped, killed, now) == []


def test_a_goodbye_that_comes_after_the_next_load_began_is_no_clone(new_load: Any) -> None:
    assert told(beat(new_load(), 0, 1, 3, final=True), beat(new_load(), 2, 4)) == []


def test_other_agents_loads_are_no_clones(new_load: Any) -> None:
    assert told(beat(new_load(), 0, 2), beat(new_load(agent_id="agt_00000000000000bb"), 1, 3)) == []


def test_a_batch_that_a_slow_connection_held_up_is_no_clone(new_load: Any) -> None:
    old, new = beat(new_load(), 0, 1), beat(new_load(), 1.5, 2)
    old.batch_rows[-1]["received_at"] = NINE + 1.8 * BEAT
    assert told(old, new) == []


def test_a_hosts_clock_that_was_set_back_between_two_loads_is_no_clone(new_load: Any) -> None:
    old, new = beat(new_load(), 0, 10, 20), beat(new_load(), 5, 15)
    for row in new.batch_rows:
        row["received_at"] += 16 * BEAT
    assert told(old, new) == []


def test_what_did_not_land_says_nothing(new_load: Any) -> None:
    one, copy = beat(new_load(), 0, 2), new_load()
    copy.cut(NINE + BEAT, outcome="conflict")
    assert told(one, copy) == []


def test_thousands_of_restarts_are_looked_through_in_one_pass(new_load: Any) -> None:
    loads = [beat(new_load(load_id=f"load-{number}"), number) for number in range(2000)]
    restarts = pl.concat([load.batches for load in loads])
    assert find_clones(restarts) == []


def test_only_an_agent_with_another_load_than_before_is_suspect(load: Any, new_load: Any) -> None:
    hosts = pl.DataFrame({"agent_id": [load.agent_id], "load_id": [load.load_id]})
    assert suspects(hosts, beat(load, 0, 1).batches) == []
    assert suspects(hosts.clear(), load.batches) == []
    assert suspects(hosts, beat(new_load(), 2).batches) == [load.agent_id]
    other = beat(new_load(agent_id="agt_00000000000000bb"), 2)
    assert suspects(hosts, other.batches) == []


@pytest.mark.parametrize("together", [True, False])
def test_landing_raises_one_alarm_for_a_clone_and_says_so(home: Any, new_load: Any, together: bool) -> None:
    tenant, one, two = home.tenant("acme"), new_load(), new_load()
    clones = None
    for at in (0, 2, 4):
        done = len(one.parts)
        home.stage(tenant, beat(one, at), skip=done)
        home.stage(tenant, beat(two, at + 1), node="node-2", skip=done)
        if not together or at == 4:
            metadata = home.run("events").asset_materializations_for_node("events")[0].metadata
            clones = metadata["clones"].value if "clones" in metadata else clones
    [alarm] = list_alarms(home.db, tenant)
    loads = sorted((one.load_id, two.load_id))
    assert (alarm.kind, alarm.agent_id, alarm.detail["loads"]) == ("clone", one.agent_id, loads)
    assert clones == {"acme": [one.agent_id]}


def test_restarts_kills_and_batches_sent_again_raise_no_alarm(home: Any, new_load: Any) -> None:
    tenant = home.tenant("acme")
    stopped, killed, now = beat(new_load(), 0, 1, final=True), beat(new_load(), 2, 3), beat(new_load(), 4, 5)
    for load in (stopped, killed, now):
        home.stage(tenant, load)
        home.run("events")
    home.stage(tenant, stopped, killed, now, node="node-2")
    home.run("events")
    assert home.table(tenant, "batches")["outcome"].sort().to_list() == ["duplicate"] * 6 + ["landed"] * 6
    home.run(day=DAY)
    assert list_alarms(home.db) == []
    state = get(home.db, tenant, DAY)
    assert state is not None
    assert state.detail["clones"] == []


def test_the_day_and_its_summary_say_that_an_agent_was_cloned(home: Any, new_load: Any) -> None:
    tenant = home.tenant("acme")
    one, two = beat(new_load(), 0, 2, 4, final=True), beat(new_load(), 1, 3, 5, final=True)
    home.stage(tenant, one, two)
    home.run("events")
    result = home.run(day=DAY)
    assert result.success
    checks = result.get_asset_check_evaluations()[0]
    assert checks.metadata["clones"].value == {"acme": [one.agent_id]}
    assert result.asset_materializations_for_node("day_checks")[0].metadata["cloned_agents"].value == 1
    state = get(home.db, tenant, DAY)
    assert state is not None
    assert (state.state, state.detail["clones"]) == ("passed", [one.agent_id])
    assert len(list_alarms(home.db)) == 1
    value = json.loads(home.table(tenant, "facts")["document"].item())["values"]["hosts.cloned"]
    assert value["value"] == 1
    page = next((home.path / "outbox").rglob("*.html")).read_text()
    assert "Two machines reported under one identity" in page

    from lake.query import run_query

    start = datetime(2026, 3, 4, tzinfo=UTC)
    assert run_query(tenant, value["sql"], start, start + timedelta(days=1)).table.to_pylist() == [{"value": 1}]
