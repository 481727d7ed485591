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
    assert ": 98.66% of what was seen; 2 known lost, 1 host-hour unknown; 150 events of 1 host, 0 missing" in str(known)


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
    assert "99.99% of what was seen; 1 known lost" in str(state(batch(1, 9, 10_000_000, 1)))
    assert " 100% of what was seen; 0 known lost" in str(state(batch(1, 9, 10_000_000, 0)))


def beats(start: float, number: int, first: int = 1, agent: str = "a", *, final: bool = False) -> list[dict[str, Any]]:
    return [
        batch(first + beat, start + beat, agent=agent, final=final and beat == number - 1) for beat in range(number)
    ]


@pytest.mark.parametrize(
    ("batches", "unknown"),
    [
        (beats(-1, 181), 0),
        (beats(-1, 10) + beats(20, 160, first=11), 1),
        (beats(-1, 10) + beats(70, 110, first=11), 2),
        (beats(-1, 10, final=True) + beats(70, 110, agent="b"), 0),
        (beats(-1, 10), 3),
        (beats(-1, 10) + beats(9, 171, first=12), 1),
        (beats(-1, 10) + beats(9, 171, agent="b", first=7) + beats(20, 160, first=11), 1),
        (beats(-100, 1), 3),
    ],
    ids=["none", "a gap", "a gap over two hours", "a goodbye", "a silent end", "a hole", "one of two", "silent before"],
)
def test_hours_of_a_host_that_nothing_vouches_for_are_unknown(batches: list[dict[str, Any]], unknown: int) -> None:
    assert state(*batches, minutes=180, now=180).unknown_hours == unknown


def test_a_host_that_never_spoke_is_unknown_in_every_hour_that_has_begun() -> None:
    assert state(absent=2, minutes=180, now=61).unknown_hours == 4


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
