from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

import polars as pl
import pytest

from lake.commits import Writer
from lake.coverage import Coverage, coverage, told
from lake.frames import frame_schema
from lake.segments import encode_segment, read_segment
from lake.settings import LakeSettings
from pipelines.landing.hosts import merge_hosts
from pipelines.landing.plan import plan

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
SCHEMA = {
    "agent_id": pl.String, "load_id": pl.String, "batch_seq": pl.Int64, "sent_at": pl.Datetime("us", "UTC"),
    "received_at": pl.Datetime("us", "UTC"), "final": pl.Boolean, "quarantined": pl.Int64, "seen": pl.Int64,
    "lost": pl.Int64,
}  # fmt: skip


def batch(number: int, minute: float, seen: int = 0, lost: int = 0, agent: str = "a", **more: Any) -> dict[str, Any]:
    moment = NOON + timedelta(minutes=minute)
    return {
        "agent_id": agent, "load_id": f"load of {agent}", "batch_seq": number, "sent_at": moment, "received_at": moment,
        "final": False, "quarantined": 0, "seen": seen, "lost": lost,
    } | more  # fmt: skip


def state(*batches: dict[str, Any], absent: int = 0, minutes: float = 10, now: float = 10) -> Coverage:
    frame = pl.DataFrame(list(batches), schema=SCHEMA)
    return told(frame, absent, NOON, NOON + timedelta(minutes=minutes), NOON + timedelta(minutes=now))


def test_the_range_counts_what_changed_in_it_and_not_what_was_before() -> None:
    known = state(batch(1, -5, 100, 7), batch(2, 1, 150, 7), batch(3, 9.9, 250, 9))
    assert (known.batches, known.seen, known.lost, known.missing, known.silent) == (2, 150, 2, 0, 0)
    assert "98.66% of 150 events seen; 2 known lost, 0 missing batches, 0 silent hosts" in str(known)


def test_a_load_that_begins_in_the_range_counts_from_zero() -> None:
    assert state(batch(1, 9, 100, 3)).lost == 3


def test_a_load_whose_past_is_not_at_hand_counts_from_its_first_batch() -> None:
    known = state(batch(500, 1, 10_000, 900), batch(501, 9, 10_010, 901))
    assert (known.seen, known.lost, known.missing) == (10, 1, 0)


def test_numbers_that_never_landed_are_missing() -> None:
    assert state(batch(1, -1), batch(4, 1), batch(6, 9)).missing == 3


@pytest.mark.parametrize(("final", "sent", "silent"), [(False, 9, 0), (False, 8.5, 0), (False, 8.4, 1), (True, 1, 0)])
def test_a_host_that_stops_without_a_goodbye_is_silent(final: bool, sent: float, silent: int) -> None:
    assert state(batch(1, sent, final=final)).silent == silent


def test_a_range_that_is_still_running_is_judged_by_now() -> None:
    assert state(batch(1, 4.9), minutes=60, now=5).silent == 0


def test_a_known_host_that_sent_nothing_is_silent_and_nothing_is_never_called_complete() -> None:
    known = state(absent=2)
    assert known.silent == 2
    assert "nothing is known" in str(known)
    assert "%" not in str(known)


def test_a_loss_is_never_rounded_away() -> None:
    assert "99.99% of 10,000,000 events" in str(state(batch(1, 9, 10_000_000, 1)))
    assert " 100% of 10,000,000 events" in str(state(batch(1, 9, 10_000_000, 0)))


def test_a_host_that_said_goodbye_before_the_range_is_not_silent_in_it(
    settings: LakeSettings, staging: ModuleType
) -> None:
    stayed = staging.batch(1, agent="agt_0000000000000001")
    left = staging.batch(1, agent="agt_0000000000000002", overrides={"final": True})
    later = staging.batch(1, agent="agt_0000000000000003", received=staging.later(days=9))
    segment = read_segment(encode_segment("n1", 1, "acme", [one.part() for one in (stayed, left, later)]))
    done = plan([segment], {}, staging.NOON)
    writer = Writer("acme", 1, settings)
    writer.append("batches", done.batches)
    writer.append("hosts", merge_hosts(pl.DataFrame(schema=frame_schema("hosts")), done.batches))
    after = staging.later(days=2)
    known = coverage("acme", after, after + timedelta(days=1), after, settings)
    assert (known.batches, known.silent) == (0, 1), "one left, one stopped, one was not there yet"
    before = coverage("acme", staging.later(hours=-1), staging.later(minutes=1), staging.NOON, settings)
    assert (before.hosts, before.silent) == (2, 0)


def test_an_empty_lake_is_known_to_be_unknown(settings: LakeSettings) -> None:
    known = coverage("acme", NOON, NOON + timedelta(days=1), NOON, settings)
    assert (known.hosts, known.batches, known.newest) == (0, 0, None)
