"""The comparison must see what is missing, what is double and what was never done."""

from __future__ import annotations

import polars as pl
import pytest

from kaimon.local.compare import KEY, compare

LOG = pl.DataFrame(
    [
        {"operation": "create", "path": "/t/a", "target_path": None, "pid": 7, "uid": 0},
        {"operation": "write", "path": "/t/a", "target_path": None, "pid": 7, "uid": 0},
        {"operation": "write", "path": "/t/a", "target_path": None, "pid": 7, "uid": 0},
        {"operation": "rename", "path": "/t/a", "target_path": "/t/b", "pid": 7, "uid": 0},
    ]
)
EVENTS = LOG.with_columns(count=pl.lit(1, pl.Int64))


def test_the_same_events_in_any_order_are_equal() -> None:
    found = compare(LOG, EVENTS.reverse())
    assert found.equal
    assert (found.expected, found.found) == (4, 4)


def test_a_collapsed_row_stands_for_its_count() -> None:
    collapsed = EVENTS.unique(KEY, maintain_order=True).with_columns(
        count=pl.when(pl.col("operation") == "write").then(2).otherwise(1).cast(pl.Int64)
    )
    assert compare(LOG, collapsed).equal


@pytest.mark.parametrize("row", range(4))
def test_a_dropped_row_is_missing(row: int) -> None:
    found = compare(LOG, EVENTS.with_row_index().filter(pl.col("index") != row).drop("index"))
    assert not found.equal
    assert found.surplus.is_empty()
    assert found.missing.select(KEY).rows() == [LOG.row(row)]
    assert found.missing["times"].to_list() == [1]


def test_a_row_twice_and_a_row_never_done_are_surplus() -> None:
    stranger = EVENTS.head(1).with_columns(path=pl.lit("/t/other"))
    found = compare(LOG, pl.concat([EVENTS, EVENTS.tail(1), stranger]))
    assert not found.equal
    assert found.missing.is_empty()
    assert found.surplus.select("operation", "path", "times").rows() == [
        ("create", "/t/other", 1),
        ("rename", "/t/a", 1),
    ]


def test_another_process_or_user_is_not_the_same_event() -> None:
    for change in ({"pid": 8}, {"uid": 1}):
        found = compare(LOG, EVENTS.with_columns(**{name: pl.lit(value, pl.Int64) for name, value in change.items()}))
        assert found.missing["times"].sum() == found.surplus["times"].sum() == 4
