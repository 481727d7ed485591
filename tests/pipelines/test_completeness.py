"""What is known of each host and hour, and what is not."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl

from pipelines.rollups.activity import activity
from pipelines.rollups.completeness import arrivals, completeness

DAY = date(2026, 3, 4)
MIDNIGHT = datetime(2026, 3, 4, tzinfo=UTC)
HOUR = timedelta(hours=1)
BEAT = timedelta(seconds=30)


def beat(load: Any, start: datetime, end: datetime, *, final: bool = False) -> None:
    """Heartbeats every 30 s from `start` to `end`, both included."""
    at = start
    while at <= end:
        load.cut(at, final=final and at + BEAT > end)
        at += BEAT


def verdict(*loads: Any, now: datetime = MIDNIGHT + 3 * 24 * HOUR, batches: pl.DataFrame | None = None) -> pl.DataFrame:
    ledger = pl.concat([load.batches for load in loads]) if batches is None else batches
    events = pl.concat([load.events for load in loads])
    quarantine = pl.concat([load.quarantine for load in loads])
    return completeness(ledger, arrivals(events.lazy(), quarantine), DAY, now)


def states(frame: pl.DataFrame) -> dict[int, str]:
    return {row["hour"].hour: row["state"] for row in frame.iter_rows(named=True)}


def test_a_day_of_heartbeats_is_complete_every_hour(load: Any) -> None:
    beat(load, MIDNIGHT - BEAT, MIDNIGHT + 24 * HOUR + BEAT)
    frame = verdict(load)
    assert set(states(frame).values()) == {"complete"}
    assert frame["covered_s"].to_list() == [3600.0] * 24


def test_silence_without_goodbye_is_unknown(load: Any) -> None:
    beat(load, MIDNIGHT + 8 * HOUR, MIDNIGHT + 10 * HOUR + 15 * BEAT)
    known = states(verdict(load))
    assert [known[hour] for hour in (7, 8, 9, 10, 11, 23)] == [
        "not_monitored",
        "complete",
        "complete",
        "unknown",
        "unknown",
        "unknown",
    ]


def test_after_a_goodbye_a_host_is_not_monitored(load: Any) -> None:
    beat(load, MIDNIGHT + 8 * HOUR, MIDNIGHT + 8 * HOUR + 30 * BEAT, final=True)
    known = states(verdict(load))
    assert (known[8], known[9]) == ("complete", "not_monitored")


def test_a_host_silent_since_yesterday_is_unknown_all_day(load: Any) -> None:
    beat(load, MIDNIGHT - HOUR, MIDNIGHT - 20 * BEAT)
    frame = verdict(load)
    assert set(states(frame).values()) == {"unknown"}
    assert frame["covered_s"].sum() == 0


def test_a_host_that_said_goodbye_yesterday_is_not_monitored_today(load: Any) -> None:
    beat(load, MIDNIGHT - HOUR, MIDNIGHT - 20 * BEAT, final=True)
    assert set(states(verdict(load)).values()) == {"not_monitored"}


def test_a_host_enrolled_tomorrow_is_not_in_todays_table(load: Any) -> None:
    beat(load, MIDNIGHT + 25 * HOUR, MIDNIGHT + 26 * HOUR)
    assert verdict(load).is_empty()


def test_what_was_in_flight_when_an_agent_was_killed_is_unknown(load: Any, new_load: Any) -> None:
    beat(load, MIDNIGHT - BEAT, MIDNIGHT + HOUR + 10 * BEAT)
    after = new_load()
    beat(after, MIDNIGHT + HOUR + 10 * BEAT + timedelta(seconds=5), MIDNIGHT + 24 * HOUR + BEAT)
    known = states(verdict(load, after))
    assert (known[0], known[1], known[2]) == ("complete", "unknown", "complete")


def test_a_restart_with_goodbye_costs_nothing(load: Any, new_load: Any) -> None:
    beat(load, MIDNIGHT - BEAT, MIDNIGHT + HOUR + 10 * BEAT, final=True)
    after = new_load()
    beat(after, MIDNIGHT + HOUR + 10 * BEAT + timedelta(seconds=5), MIDNIGHT + 24 * HOUR + BEAT)
    frame = verdict(load, after)
    assert states(frame)[1] == "complete"
    assert frame.filter(pl.col("hour") == MIDNIGHT + HOUR)["covered_s"].item() == 3595.0


def test_known_losses_make_an_hour_partial_and_say_why(load: Any) -> None:
    beat(load, MIDNIGHT - BEAT, MIDNIGHT + 5 * HOUR)
    load.lose(cause="ring", rows=1, events=4)
    beat(load, MIDNIGHT + 5 * HOUR + BEAT, MIDNIGHT + 24 * HOUR + BEAT)
    frame = verdict(load)
    hour = frame.filter(pl.col("hour") == MIDNIGHT + 5 * HOUR).row(0, named=True)
    assert (hour["state"], hour["lost_ring"], hour["lost_shed"], hour["seen"]) == ("partial", 4, 0, 4)
    assert states(frame)[4] == "complete"


def test_captured_filtered_and_pending_balance_in_the_hour_of_the_cut(load: Any) -> None:
    at = MIDNIGHT + 5 * HOUR
    beat(load, MIDNIGHT - BEAT, at - BEAT)
    load.do(at - timedelta(seconds=1), count=3)
    load.do(at + timedelta(seconds=1))
    load.filter_out(10)
    load.hold(2)
    beat(load, at + timedelta(seconds=2), at + HOUR)
    hour = verdict(load).filter(pl.col("hour") == at).row(0, named=True)
    assert [hour[name] for name in ("seen", "captured", "filtered", "pending", "unaccounted")] == [16, 4, 10, 2, 0]


def test_an_event_gone_from_the_table_shows_in_its_hour(load: Any) -> None:
    beat(load, MIDNIGHT - BEAT, MIDNIGHT + HOUR)
    load.do(MIDNIGHT + HOUR, count=2)
    beat(load, MIDNIGHT + HOUR + BEAT, MIDNIGHT + 24 * HOUR + BEAT)
    frame = completeness(load.batches, arrivals(load.events.clear().lazy(), load.quarantine), DAY, MIDNIGHT + 48 * HOUR)
    hour = frame.filter(pl.col("hour") == MIDNIGHT + HOUR).row(0, named=True)
    assert (hour["unaccounted"], hour["state"]) == (2, "partial")


def test_a_quarantined_line_has_arrived(load: Any) -> None:
    beat(load, MIDNIGHT - BEAT, MIDNIGHT + HOUR)
    load.do(MIDNIGHT + HOUR, count=1)
    load.cut(MIDNIGHT + HOUR + timedelta(seconds=1), broken=1)
    beat(load, MIDNIGHT + HOUR + BEAT, MIDNIGHT + 24 * HOUR + BEAT)
    hour = verdict(load).filter(pl.col("hour") == MIDNIGHT + HOUR).row(0, named=True)
    assert (hour["captured"], hour["unaccounted"], hour["state"]) == (1, 0, "complete")


def test_a_hole_in_the_batches_that_nobody_owns_up_to_is_unknown(load: Any) -> None:
    beat(load, MIDNIGHT - BEAT, MIDNIGHT + HOUR)
    load.do(MIDNIGHT + HOUR)
    lost = load.cut(MIDNIGHT + HOUR + timedelta(seconds=2))
    beat(load, MIDNIGHT + HOUR + BEAT, MIDNIGHT + 24 * HOUR + BEAT)
    ledger = load.batches.filter(pl.col("batch_seq") != lost["batch_seq"])
    events = load.events.filter(pl.col("batch_seq") != lost["batch_seq"])
    frame = completeness(ledger, arrivals(events.lazy(), load.quarantine), DAY, MIDNIGHT + 48 * HOUR)
    assert states(frame)[1] == "unknown"
    assert frame["unaccounted"].sum() == 1


def test_a_refused_batch_that_the_next_one_owns_up_to_is_partial(load: Any) -> None:
    beat(load, MIDNIGHT - BEAT, MIDNIGHT + HOUR)
    load.lose(cause="refused", rows=3, events=3)
    load.batch_seq += 1
    beat(load, MIDNIGHT + HOUR + BEAT, MIDNIGHT + 24 * HOUR + BEAT)
    frame = verdict(load)
    assert states(frame)[1] == "partial"
    assert frame["lost_refused"].sum() == 3


def test_a_running_day_ends_now_and_its_newest_batch_is_not_yet_silence(load: Any) -> None:
    beat(load, MIDNIGHT - BEAT, MIDNIGHT + 3 * HOUR + 10 * BEAT)
    frame = verdict(load, now=MIDNIGHT + 3 * HOUR + 12 * BEAT)
    assert states(frame) == {0: "complete", 1: "complete", 2: "complete", 3: "complete"}
    assert frame["covered_s"].to_list()[3] == 300.0
    assert states(verdict(load, now=MIDNIGHT + 3 * HOUR + 14 * BEAT))[3] == "unknown"


def test_two_hosts_are_judged_apart(load: Any, new_load: Any) -> None:
    beat(load, MIDNIGHT - BEAT, MIDNIGHT + 24 * HOUR + BEAT)
    other = new_load(agent_id="agt_00000000000000bb", hostname="db-1")
    beat(other, MIDNIGHT - BEAT, MIDNIGHT + 12 * HOUR)
    frame = verdict(load, other)
    late = frame.filter(pl.col("hour") == MIDNIGHT + 20 * HOUR)
    assert dict(late.select("hostname", "state").rows()) == {"web-1": "complete", "db-1": "unknown"}


def test_activity_counts_occurrences_by_hour_host_and_operation(load: Any, noon: datetime) -> None:
    load.do(noon, count=5, path="/a")
    load.do(noon, count=1, path="/a")
    load.do(noon, operation="delete", result=13, path="/b")
    load.do(noon + HOUR, path="/c")
    load.cut(noon + HOUR)
    rows = activity(load.events.lazy()).select("hour", "operation", "events", "rows", "paths", "denied").rows()
    assert rows == [
        (noon, "delete", 1, 1, 1, 1),
        (noon, "write", 6, 2, 1, 0),
        (noon + HOUR, "write", 1, 1, 1, 0),
    ]
