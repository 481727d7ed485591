"""The recording: what is kept of a capture still adds up, and goes out as a load of its own."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import polars as pl
import pytest

from kaimon.local import recording
from kaimon.local.compare import compare, read_log
from kaimon.local.relay import drop_one

NOTHING = dict.fromkeys(("ring", "scratch", "shed", "refused", "evicted"), 0)


def batch(seen: int, paths: list[str], lost: int = 0, first: int = 0) -> recording.Batch:
    cpu = {"cpu": 0, "seen": seen, "filtered": seen - first - len(paths) - lost, "next_seq": first + len(paths) + lost}
    cpu |= {"pending": 0, "lost_rows": NOTHING | {"ring": lost}, "lost_events": NOTHING | {"ring": lost}}
    events: list[dict[str, Any]] = [
        {"cpu": 0, "seq": first + index, "path": path, "count": 1} for index, path in enumerate(paths)
    ]
    return [{"kind": "batch", "cpus": [cpu]}, *events]


def test_what_is_left_out_counts_as_filtered_and_rows_are_numbered_anew() -> None:
    capture = [batch(10, ["/x", "/m/1", "/y"]), batch(20, ["/m/2", "/z", "/m/3"], first=3)]
    first, second = recording.reduced(capture, "/m/")
    assert [event["seq"] for event in first[1:] + second[1:]] == [0, 1, 2]
    for header, delivered in ((first[0], 1), (second[0], 3)):
        (cpu,) = header["cpus"]
        assert cpu["next_seq"] == delivered
        assert cpu["seen"] == cpu["filtered"] + delivered


def test_a_capture_that_lost_something_is_no_recording() -> None:
    with pytest.raises(ValueError, match="lost"):
        list(recording.reduced([batch(10, ["/m/1"], lost=1)], "/m/"))


def test_the_committed_recording_holds_every_line_of_its_log_once() -> None:
    events = [event for header, *events in recording.load() for event in events]
    assert {event["path"].startswith(f"/tmp/{recording.MARKER}") for event in events} == {True}
    text, number = ("operation", "path", "target_path"), ("pid", "uid", "count")
    frame = pl.DataFrame(events, schema=dict.fromkeys(text, pl.String) | dict.fromkeys(number, pl.Int64))
    found = compare(read_log(recording.LOG), frame)
    assert found.equal, (found.missing, found.surplus)
    assert found.expected > 100


def test_the_committed_recording_keeps_both_equations() -> None:
    batches = recording.load()
    delivered: Counter[int] = Counter()
    for header, *events in batches:
        delivered.update(event["cpu"] for event in events)
        for cpu in header["cpus"]:
            assert cpu["next_seq"] == delivered[cpu["cpu"]]
            assert cpu["seen"] == cpu["filtered"] + cpu["pending"] + delivered[cpu["cpu"]]
    assert batches[-1][0]["final"]


def test_each_replay_is_a_load_of_its_own_and_of_now() -> None:
    batches = recording.load()
    once, again = (list(recording.as_of_now(batches, "agt_0123456789abcdef")) for _ in range(2))
    assert once[0][0]["load_id"] != again[0][0]["load_id"]
    assert once[0][0]["sent_at"] > batches[0][0]["sent_at"]
    shift = once[0][0]["sent_at"] - batches[0][0]["sent_at"]
    assert all(new["time"] == old["time"] + shift for new, old in zip(once[0][1:], batches[0][1:], strict=True))


def test_the_relay_drops_one_marked_write_and_no_more() -> None:
    lines = [
        {"kind": "batch"},
        {"operation": "write", "path": "/other"},
        {"operation": "create", "path": "/mark/a"},
        {"operation": "write", "path": "/mark/a"},
        {"operation": "write", "path": "/mark/a"},
    ]
    body = b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines)
    edit = drop_one("/mark/")
    kept = [json.loads(line) for line in edit(body).splitlines()]
    assert kept == [*lines[:3], lines[4]]
    assert edit(body) == body
