from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import ModuleType

import polars as pl
import pyarrow.parquet as pq
import pytest
from sqlalchemy import select

from kaimon.base.clock import to_micros
from kaimon.base.escape import unescape
from lake.commits import StaleLeaseError, Writer, lease_name
from lake.segments import SegmentError, segment_key
from lake.settings import LakeSettings
from lake.stores import open_store
from pipelines.landing import Landed, pending_tenants
from pipelines.landing import land as module
from tenancy import days, hints
from tenancy.alarms import BATCH_CONFLICT, list_alarms
from tenancy.database import Database
from tenancy.leases import acquire
from tenancy.tables import AUDIT_RECORDS

Land = Callable[..., Landed]


def test_what_is_staged_lands_once_and_landing_again_changes_nothing(
    land: Land, home: Path, staging: ModuleType
) -> None:
    sent = [staging.batch(1), staging.batch(2, received=staging.later(seconds=2)), staging.batch(3, rows=0)]
    staging.stage(home, "acme", "n1", 1, sent[:2])
    staging.stage(home, "acme", "n1", 2, sent[2:])
    landed = land()
    assert (landed.segments, landed.batches, landed.rows, landed.days) == (2, 3, 6, {date(2026, 3, 10)})
    staging.assert_each_once(home, "acme", sent)
    again = land()
    assert (again.segments, again.rows, again.repaired) == (0, 0, False)
    staging.assert_each_once(home, "acme", sent)


def test_a_tenant_with_nothing_staged_lands_nothing(land: Land) -> None:
    assert land().segments == 0


def test_a_retried_batch_is_counted_once_in_the_group_and_against_the_ledger(
    land: Land, home: Path, staging: ModuleType
) -> None:
    sent = [staging.batch(1, bad=(b"x",)), staging.batch(2)]
    staging.stage(home, "acme", "n1", 1, sent)
    staging.stage(home, "acme", "n2", 1, [sent[0]])
    assert land().duplicates == 1
    staging.stage(home, "acme", "n3", 1, [sent[1], sent[1]])
    assert land().duplicates == 2
    staging.assert_each_once(home, "acme", sent)
    assert staging.read(home, "acme", "quarantine").height == 1
    assert staging.read(home, "acme", "batches").height == 5


def test_a_batch_that_lands_before_its_elder_does_not_hide_it(land: Land, home: Path, staging: ModuleType) -> None:
    staging.stage(home, "acme", "n1", 1, [staging.batch(8)])
    land()
    staging.stage(home, "acme", "n2", 1, [staging.batch(7)])
    land()
    staging.assert_each_once(home, "acme", [staging.batch(7), staging.batch(8)])


def test_a_segment_after_a_gap_waits_for_the_one_before(land: Land, home: Path, staging: ModuleType) -> None:
    staging.stage(home, "acme", "n1", 1, [staging.batch(1)])
    staging.stage(home, "acme", "n1", 3, [staging.batch(3)])
    land()
    staging.assert_each_once(home, "acme", [staging.batch(1)])
    staging.stage(home, "acme", "n1", 2, [staging.batch(2)])
    land()
    staging.assert_each_once(home, "acme", [staging.batch(number) for number in (1, 2, 3)])


def test_the_same_number_with_other_contents_keeps_both_one_apart(land: Land, home: Path, staging: ModuleType) -> None:
    first, second = staging.batch(1), staging.batch(1, rows=2, bad=(b"{\xff",))
    staging.stage(home, "acme", "n1", 1, [first])
    staging.stage(home, "acme", "n2", 1, [second])
    landed = land()
    assert (landed.conflicts, landed.quarantined) == (1, 3)
    staging.assert_each_once(home, "acme", [first])
    quarantine = staging.read(home, "acme", "quarantine")
    assert quarantine["code"].to_list() == ["batch_conflict", "batch_conflict", "bad_line"]
    assert unescape(quarantine["raw"][2]) == b"{\xff"
    lines = [json.loads(unescape(raw)) for raw in quarantine["raw"][:2]]
    assert [line["seq"] for line in lines] == [1000, 1001]
    assert staging.read(home, "acme", "batches").sort("node")["outcome"].to_list() == ["landed", "conflict"]


def test_a_text_of_a_line_that_did_not_land_is_in_no_file(land: Land, home: Path, staging: ModuleType) -> None:
    late = {"time": to_micros(staging.NOON) - 30 * 86_400_000_000, "path": "/data/of-a-line-that-is-too-late"}
    rows = ({"seq": 1, "path": "/data/first"}, {"seq": 2} | late, {"seq": 3, "path": "/data/last"})
    staging.stage(home, "acme", "n1", 1, [replace(staging.batch(1), rows=rows)])
    assert land().quarantined == 1
    [file] = (home / "lake" / "acme" / "events").rglob("*.parquet")
    [paths] = pq.ParquetFile(file, read_dictionary=["path"]).read(["path"]).column("path").chunks
    assert paths.to_pylist() == ["/data/first", "/data/last"]
    assert paths.dictionary.to_pylist() == ["/data/first", "/data/last"]


@pytest.mark.parametrize("number", [1, 2**53 + 1])
def test_a_conflict_is_one_alarm_on_the_chain_however_often_it_is_sent(
    land: Land, db: Database, home: Path, staging: ModuleType, number: int
) -> None:
    other = staging.batch(number, rows=2)
    staging.stage(home, "acme", "n1", 1, [staging.batch(number)])
    land()
    assert list_alarms(db) == []
    staging.stage(home, "acme", "n2", 1, [other])
    land()
    staging.stage(home, "acme", "n3", 1, [other])
    assert land().conflicts == 1
    [alarm] = list_alarms(db, "acme")
    digests = staging.read(home, "acme", "batches").filter(outcome="conflict")["digest"].unique().to_list()
    assert alarm.detail["batch_seq"] == str(number)
    assert (alarm.kind, [alarm.detail["digest"]]) == (BATCH_CONFLICT, digests)
    assert _conflicts_on_the_chain(db) == [alarm.detail["digest"]]
    staging.stage(home, "acme", "n4", 1, [staging.batch(number, rows=1)])
    land()
    assert len(_conflicts_on_the_chain(db)) == 2


def test_a_conflict_is_told_by_the_run_after_one_that_died_before_telling_it(
    land: Land, db: Database, home: Path, staging: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging.stage(home, "acme", "n1", 1, [staging.batch(1)])
    staging.stage(home, "acme", "n2", 1, [staging.batch(1, rows=2)])

    def die(*_: object) -> None:
        raise OSError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(module, "alarm_of_conflicts", die)
        with pytest.raises(OSError, match="killed"):
            land()
    assert _conflicts_on_the_chain(db) == []
    land()
    assert len(_conflicts_on_the_chain(db)) == 1


def _conflicts_on_the_chain(db: Database) -> list[str]:
    with db.reading() as session:
        chain = select(AUDIT_RECORDS.c.body).where(AUDIT_RECORDS.c.chain == "acme").order_by(AUDIT_RECORDS.c.seq)
        records = [json.loads(body) for body in session.scalars(chain)]
    told = [record["detail"] for record in records if record["act"] == "alarm.raise"]
    return [detail["digest"] for detail in told if detail["kind"] == BATCH_CONFLICT]


@pytest.mark.parametrize(
    ("changed", "kept"),
    [
        ({"time": {"days": -7}}, True),
        ({"time": {"days": -7, "microseconds": -1}}, False),
        ({"time": {"minutes": 10}}, True),
        ({"time": {"minutes": 10, "microseconds": 1}}, False),
        ({"last_time": {"seconds": -2}}, False),
        ({"last_time": {"seconds": 1}}, True),
        ({"last_time": {"minutes": 11}}, False),
        ({"process_start": {"days": -400}}, True),
        ({"process_start": {"days": 1}}, False),
    ],
)
def test_an_event_out_of_its_window_goes_to_quarantine_as_it_came(
    land: Land, home: Path, staging: ModuleType, changed: dict[str, dict[str, float]], kept: bool
) -> None:
    odd = {"seq": 5} | {name: to_micros(staging.later(**delta)) for name, delta in changed.items()}
    sent = staging.Batch(1, ({"seq": 4}, odd, {"seq": 6}))
    staging.stage(home, "acme", "n1", 1, [sent])
    land()
    assert sorted(staging.read(home, "acme", "events")["seq"]) == ([4, 5, 6] if kept else [4, 6])
    quarantine = staging.read(home, "acme", "quarantine")
    assert staging.read(home, "acme", "batches")["quarantined"].to_list() == [quarantine.height] == [int(not kept)]
    if not kept:
        assert quarantine["code"].to_list() == ["out_of_window"]
        assert quarantine["line"].to_list() == [3]
        line = json.loads(unescape(quarantine["raw"][0]))
        assert {name: line[name] for name in odd} == odd


@pytest.mark.parametrize("time", [-(2**63), -1, 2**62, 2**63 - 1])
def test_a_time_that_no_calendar_holds_stops_nothing(land: Land, home: Path, staging: ModuleType, time: int) -> None:
    sent = staging.Batch(1, ({"seq": 4, "time": time}, {"seq": 5}), overrides={"sent_at": time, "last_time": time})
    staging.stage(home, "acme", "n1", 1, [sent])
    land()
    assert staging.read(home, "acme", "events")["seq"].to_list() == [5]
    assert len(staging.read(home, "acme", "batches").rows()) == 1


def test_the_days_that_data_came_for_are_open_again_and_their_checks_void(
    land: Land, db: Database, home: Path, staging: ModuleType
) -> None:
    yesterday, today = date(2026, 3, 9), date(2026, 3, 10)
    days.mark_open(db, "acme", [yesterday])
    assert days.set_checked(db, "acme", yesterday, True, {}, 1)
    late = {"seq": 1, "time": to_micros(staging.later(days=-1))}
    staging.stage(home, "acme", "n1", 1, [staging.Batch(1, (late,))])
    assert land().days == {yesterday, today}
    assert [(state.day, state.state) for state in days.list_days(db, "acme")] == [(yesterday, "open"), (today, "open")]


def test_a_day_is_opened_before_its_first_row_can_be_seen_and_again_after_the_last_commit(
    land: Land, db: Database, home: Path, staging: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    monkeypatch.setattr(module, "mark_open", lambda *_: steps.append("open"))
    append, append_files, replace_ = Writer.append, Writer.append_files, Writer.replace
    monkeypatch.setattr(Writer, "append", lambda self, table, *rest: [steps.append(table), append(self, table, *rest)])
    monkeypatch.setattr(
        Writer, "append_files", lambda self, table, *rest: [steps.append(table), append_files(self, table, *rest)]
    )
    monkeypatch.setattr(
        Writer, "replace", lambda self, table, *rest: [steps.append(table), replace_(self, table, *rest)]
    )
    staging.stage(home, "acme", "n1", 1, [staging.batch(1)])
    land()
    assert steps == ["open", "events", "quarantine", "batches", "open", "hosts"]


def test_hosts_hold_the_newest_description_and_the_whole_span(land: Land, home: Path, staging: ModuleType) -> None:
    old, new = staging.later(hours=-1), staging.later(hours=1)
    staging.stage(home, "acme", "n1", 1, [staging.batch(2, received=new, overrides={"agent_version": "0.2.0"})])
    land()
    staging.stage(home, "acme", "n1", 2, [staging.batch(1, received=old)])
    land()
    hosts = staging.read(home, "acme", "hosts")
    assert hosts.select("agent_version", "first_seen", "last_seen").rows() == [("0.2.0", old, new)]


def test_groups_are_bounded_and_together_hold_everything(
    land: Land, home: Path, staging: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GROUP_ROWS", 7)
    sent = [staging.batch(number) for number in range(1, 9)]
    for seq, one in enumerate(sent, 1):
        staging.stage(home, "acme", "n1", seq, [one])
    asked: list[int] = []
    assert land(should_stop=lambda: asked.append(1) or len(asked) == 3).segments == 4
    assert land().segments == 4
    staging.assert_each_once(home, "acme", sent)


def test_tenants_land_apart(land: Land, home: Path, staging: ModuleType) -> None:
    staging.stage(home, "acme", "n1", 1, [staging.batch(1)])
    staging.stage(home, "beta", "n1", 1, [staging.batch(1, rows=5)])
    land("acme")
    land("beta")
    staging.assert_each_once(home, "acme", [staging.batch(1)])
    staging.assert_each_once(home, "beta", [staging.batch(1, rows=5)])


def test_a_segment_under_another_name_is_refused(land: Land, home: Path, staging: ModuleType) -> None:
    staging.stage(home, "beta", "n1", 1, [staging.batch(1)])
    store = open_store("staging", LakeSettings(home=home))
    store.put_new(segment_key("acme", "n1", 1), store.get(segment_key("beta", "n1", 1)))
    with pytest.raises(SegmentError, match="beta/n1/1"):
        land("acme")
    assert staging.read(home, "acme", "events").is_empty()


def test_hints_find_what_a_listing_finds_and_are_dropped_once_landed(
    land: Land, db: Database, home: Path, staging: ModuleType
) -> None:
    store = open_store("staging", LakeSettings(home=home))
    assert pending_tenants(db, store) == []
    staging.stage(home, "acme", "n1", 1, [staging.batch(1)])
    assert land(listing=False).segments == 0
    hints.mark_staged(db, [("acme", "n1", 3)])
    staging.stage(home, "acme", "n1", 2, [staging.batch(2)])
    assert pending_tenants(db, store, staging.NOON) == ["acme"]
    assert land(listing=False).segments == 2
    staging.assert_each_once(home, "acme", [staging.batch(1), staging.batch(2)])
    assert [hint.seq for hint in hints.all_hints(db)] == [3], "it is ahead of what landed"
    staging.stage(home, "acme", "n1", 3, [staging.batch(3)])
    assert land(listing=False).segments == 1
    assert hints.all_hints(db) == []


def test_while_another_run_has_the_tenant_nothing_is_touched(
    land: Land, db: Database, home: Path, staging: ModuleType
) -> None:
    staging.stage(home, "acme", "n1", 1, [staging.batch(1)])
    assert acquire(db, lease_name("acme"), "other", 60) is not None
    assert land().held_elsewhere
    assert staging.read(home, "acme", "batches").is_empty()


def test_a_holder_whose_lease_was_taken_lands_nothing(
    land: Land, db: Database, home: Path, staging: ModuleType
) -> None:
    staging.stage(home, "acme", "n1", 1, [staging.batch(1)])
    newer = Writer("acme", 9, LakeSettings(home=home))
    newer.append("events", staging.read(home, "acme", "events"))
    with pytest.raises(StaleLeaseError):
        land()
    assert staging.read(home, "acme", "batches").is_empty()


def test_a_row_that_vanished_between_crash_and_repair_stops_the_tenant(
    land: Land, home: Path, staging: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging.stage(home, "acme", "n1", 1, [staging.batch(1)])
    writer = Writer("acme", 1, LakeSettings(home=home))
    with monkeypatch.context() as patch:
        patch.setattr(module._Landing, "_hold", lambda self: self.writer.versions("events", ["n1"])["n1"] and 1 / 0)
        with pytest.raises(ZeroDivisionError):
            land()
    events = staging.read(home, "acme", "events")
    writer.replace("events", events.head(2))
    with pytest.raises(module.RepairError, match="2 rows where 3 belong"):
        land()


def test_a_batch_of_another_agent_with_the_same_number_is_another_batch(
    land: Land, home: Path, staging: ModuleType
) -> None:
    first = staging.batch(1)
    other = replace(first, agent="agt_0000000000000002")
    third = replace(first, load="33333333-3333-3333-3333-333333333333")
    staging.stage(home, "acme", "n1", 1, [first, other, third])
    land()
    staging.assert_each_once(home, "acme", [first, other, third])
    assert staging.read(home, "acme", "events").select(pl.len()).item() == 9
