"""Row rules on landing: which well-formed events go to quarantine, and why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import polars as pl

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


RULED: Final = ("time", "last_time", "process_start", "received_at")
"""The columns that the rules look at."""


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
