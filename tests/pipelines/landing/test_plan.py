"""Rows that are seen to land without judging each: they come to what judging them one by one comes to."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaimon.base.clock import to_micros
from lake.segments import Segment, encode_segment, read_segment
from pipelines.landing import plan as module
from pipelines.landing.rules import AHEAD, BEHIND

SECOND = 1_000_000
DAY = 86_400 * SECOND
EDGES = [round(edge.total_seconds()) * SECOND for edge in (-BEHIND, AHEAD)]
OFFSETS = st.one_of(
    st.integers(-DAY, 500 * SECOND), st.sampled_from([edge + by for edge in EDGES for by in (-1, 0, 1)])
)
ROW = st.fixed_dictionaries(
    {"time": OFFSETS}, optional={"last_time": st.none() | OFFSETS, "process_start": st.none() | OFFSETS}
)


def staged(staging: ModuleType, batches: list[list[dict[str, Any]]]) -> Segment:
    """A segment of rows whose times are told from their arrival."""
    arrival = to_micros(staging.NOON)
    parts = [
        staging.Batch(
            number,
            tuple(
                {"seq": seq} | {name: None if by is None else arrival + by for name, by in row.items()}
                for seq, row in enumerate(rows)
            ),
        ).part()
        for number, rows in enumerate(batches, 1)
    ]
    return read_segment(encode_segment("n1", 1, "acme", parts))


@given(batches=st.lists(st.lists(ROW, max_size=4), min_size=1, max_size=3))
def test_rows_seen_at_once_come_to_what_each_by_itself_comes_to(
    staging: ModuleType, batches: list[list[dict[str, Any]]]
) -> None:
    segment = staged(staging, batches)
    verdict: Any = ["landed"] * len(batches)
    at_once, each = module._as_they_are(segment, verdict), module._one_by_one(segment, verdict)
    if at_once is None:
        return
    assert each.kept is None
    assert (at_once.told, at_once.brought, at_once.bad) == (each.told, each.brought, each.bad)
    assert at_once.quarantine.equals(each.quarantine)


def test_rows_of_one_day_within_their_window_are_seen_at_once(staging: ModuleType) -> None:
    rows = [{"time": -5 * SECOND, "last_time": -4 * SECOND, "process_start": -DAY}, {"time": 0, "last_time": None}]
    assert module._as_they_are(staged(staging, [rows, rows]), ["landed", "landed"]) is not None


@pytest.mark.parametrize("verdict", ["duplicate", "conflict", "replayed"])
def test_a_batch_that_does_not_simply_land_has_its_rows_judged(staging: ModuleType, verdict: Any) -> None:
    assert module._as_they_are(staged(staging, [[{"time": 0}]]), [verdict]) is None


def test_a_plan_of_rows_seen_at_once_has_what_the_tables_need(staging: ModuleType) -> None:
    segment = staged(staging, [[{"time": 0}, {"time": -SECOND}], [{"time": SECOND}]])
    done = module.plan([segment], {}, staging.NOON)
    assert done.rows == 3
    assert done.by_batch.select("batch_seq", "len").rows() == [(1, 2), (2, 1)]
    assert done.by_batch.schema["len"] == pl.UInt32
    assert done.quarantine.is_empty()
