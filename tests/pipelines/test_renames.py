"""Changed names: a host that calls itself otherwise is an alarm, and stays the host that it enrolled as."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from lake.frames import frame_schema
from pipelines.landing.hosts import merge_hosts
from pipelines.renames import find_renames
from tenancy.alarms import list_alarms

NINE = datetime(2026, 3, 4, 9, tzinfo=UTC)
NOBODY = pl.DataFrame(schema=frame_schema("hosts"))


def claim(load: Any, *names: str) -> Any:
    """Cut a batch under each of these names, half a minute after the one before."""
    for name in names:
        load.claims = name
        at = NINE + load.batch_seq * timedelta(seconds=30)
        load.do(at)
        load.cut(at)
    return load


def told(hosts: pl.DataFrame, batches: pl.DataFrame) -> list[tuple[str, str, int]]:
    return [(one.before, one.after, one.batch_seq) for one in find_renames(hosts, batches)]


def test_a_name_that_stays_is_no_change(new_load: Any) -> None:
    assert told(NOBODY, claim(new_load(), "web-1", "web-1").batches) == []


def test_a_first_batch_is_held_to_the_name_of_enrollment(new_load: Any) -> None:
    assert told(NOBODY, claim(new_load(), "web-2", "web-2").batches) == [("web-1", "web-2", 1)]


def test_a_later_batch_is_held_to_what_the_host_was_called_last(new_load: Any) -> None:
    load = claim(new_load(), "web-1", "web-2")
    before = len(load.batches)
    hosts = merge_hosts(NOBODY, load.batches)
    later = claim(load, "web-2", "web-1").batches[before:]
    assert told(hosts, later) == [("web-2", "web-1", 4)]


def test_every_change_within_a_group_is_told_in_order(new_load: Any) -> None:
    batches = claim(new_load(), "web-1", "b", "c").batches
    assert told(NOBODY, batches.reverse()) == [("web-1", "b", 2), ("b", "c", 3)]


def test_another_agents_name_and_what_did_not_land_say_nothing(new_load: Any) -> None:
    one, other = claim(new_load(), "web-1"), new_load(agent_id="agt_00000000000000bb", hostname="web-2")
    claim(other, "web-2")
    one.claims = "web-2"
    one.cut(NINE + timedelta(hours=1), outcome="conflict")
    assert told(NOBODY, pl.concat([one.batches, other.batches])) == []


def test_landing_raises_one_alarm_a_change_without_a_name_in_it_and_the_host_keeps_its_own(
    home: Any, new_load: Any
) -> None:
    tenant, load = home.tenant("acme"), claim(new_load(), "web-1", "taken-over")
    home.stage(tenant, load)
    counts = home.run("events").asset_materializations_for_node("events")[0].metadata
    assert counts["renamed"].value == 1
    home.stage(tenant, load, node="node-2")  # sent again
    home.run("events")
    [alarm] = list_alarms(home.db, tenant)
    assert (alarm.kind, alarm.agent_id) == ("hostname_changed", load.agent_id)
    assert alarm.detail == {"load_id": load.load_id, "batch_seq": "2"}
    assert "taken-over" not in f"{alarm.subject}{alarm.detail}"
    assert home.table(tenant, "hosts").select("hostname", "claimed_hostname").row(0) == ("web-1", "taken-over")
    assert home.table(tenant, "events")["hostname"].unique().to_list() == ["web-1"]
