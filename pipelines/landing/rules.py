"""Row rules on landing: which well-formed events go to quarantine, and why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from kaimon.base.clock import to_micros

AHEAD: Final = timedelta(minutes=10)
BEHIND: Final = timedelta(days=7)
"""An event's time may be this far ahead of its arrival, and this far behind it."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_RULES: Final = (
    (
        pl.col("time").is_between(pl.col("received_at") - BEHIND, pl.col("received_at") + AHEAD),
        "its time is more than 10 minutes ahead of its arrival, or more than 7 days behind",
    ),
    (
        pl.col("last_time").is_between(pl.col("time"), pl.col("received_at") + AHEAD),
        "its last time is before its time, or more than 10 minutes ahead of its arrival",
    ),
    (
        pl.col("process_start").is_between(pl.lit(_EPOCH), pl.col("received_at") + AHEAD),
        "its process started before 1970, or more than 10 minutes after its arrival",
    ),
)


RULED: Final = ("time", "last_time", "process_start")
"""The columns that the rules look at, beside a row's arrival."""


def all_hold(rows: pa.Table, first: datetime, last: datetime) -> bool:
    """Say whether no row breaks a rule, whichever of the arrivals from `first` to `last` is its own.

    True for nearly every segment, at a hundredth of what judging each row costs; False says nothing.
    """
    latest = to_micros(first + AHEAD)
    spans = {name: _span(rows[name]) for name in RULED}
    if any(most > latest for _, most in spans.values()):
        return False
    if spans["time"][0] < to_micros(last - BEHIND) or spans["process_start"][0] < to_micros(_EPOCH):
        return False
    in_order: Any = pc.greater_equal(rows["last_time"], rows["time"])
    return pc.all(in_order, min_count=0).as_py() is True


def _span(column: Any) -> tuple[float, float]:
    """Return the least and the greatest of a column's times (µs since 1970), no time at all if it has none."""
    ends: Any = pc.min_max(column)
    least, most = ends.values()
    return (least.value, most.value) if least.is_valid else (float("inf"), float("-inf"))


def judge(events: pl.LazyFrame) -> pl.LazyFrame:
    """Return `events` with `code` and `detail`: why a row goes to quarantine, null where it does not.

    Constants only: a repair after a crash must come to the same verdict as the run that died.
    """
    code, detail = pl.lit(None, pl.String), pl.lit(None, pl.String)
    for holds, why in reversed(_RULES):
        broken = holds.fill_null(value=True).not_()
        code = pl.when(broken).then(pl.lit("out_of_window")).otherwise(code)
        detail = pl.when(broken).then(pl.lit(why)).otherwise(detail)
    return events.with_columns(code=code, detail=detail)
