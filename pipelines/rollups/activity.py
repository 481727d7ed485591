"""The `activity` rollup: hour by host by operation."""

from __future__ import annotations

import errno
from typing import Final

import polars as pl

from pipelines.frames import conform
from pipelines.passes import by_value

DENIED: Final = (errno.EACCES, errno.EPERM)
_KEY: Final = ["event_day", "hour", "agent_id", "operation"]


def activity(events: pl.LazyFrame) -> pl.DataFrame:
    """Roll up one day's events to `lake.schema.ACTIVITY`, sorted by its key.

    A collapsed row stands for `count` occurrences, all of them in the hour of its `time`. `hostname` is the newest
    that the agent's rows carry.
    """
    rolled = pl.concat(_part(part) for part in by_value(events, "agent_id")).sort(_KEY)
    return conform(rolled, "activity")


def _part(events: pl.LazyFrame) -> pl.DataFrame:
    return (
        events.with_columns(hour=pl.col("time").dt.truncate("1h"))
        .group_by(_KEY)
        .agg(
            hostname=pl.col("hostname").sort_by("received_at").last(),
            events=pl.col("count").sum(),
            rows=pl.len(),
            paths=pl.col("path").n_unique(),
            denied=pl.col("count").filter(pl.col("result").is_in(DENIED)).sum(),
        )
        .collect()
    )
