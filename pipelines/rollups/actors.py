"""The rollups `top_paths`, `processes` and `users`: what a day's events did to what, and who did it."""

from __future__ import annotations

from typing import Final

import polars as pl

from pipelines.frames import conform
from pipelines.rollups.activity import DENIED

TOP: Final = 1_000
"""Paths of a day that `top_paths` names."""

_DONE: Final = {
    "events": pl.col("count").sum(),
    "denied": pl.col("count").filter(pl.col("result").is_in(DENIED)).sum(),
    "rows": pl.len(),
}
_SPAN: Final = {"first_time": pl.col("time").min(), "last_time": pl.col("time").max()}
_HOSTNAME: Final = pl.col("hostname").sort_by("received_at", "hostname").last()
_PROCESS: Final = ["event_day", "agent_id", "process", "exe"]
_USER: Final = ["event_day", "agent_id", "uid", "login_uid"]


def top_paths(events: pl.LazyFrame, top: int = TOP) -> pl.DataFrame:
    """Roll up one day's events to `lake.schema.TOP_PATHS`: the `top` paths with the most occurrences, by rank."""
    rolled = (
        events.group_by("event_day", "path")
        .agg(
            **_DONE,
            hosts=pl.col("agent_id").n_unique(),
            processes=pl.col("process").n_unique(),
            users=pl.col("uid").n_unique(),
        )
        .sort("events", "path", descending=[True, False])
        .head(top)
        .with_row_index("rank", offset=1)
        .collect()
    )
    return conform(rolled, "top_paths")


def processes(events: pl.LazyFrame) -> pl.DataFrame:
    """Roll up one day's events to `lake.schema.PROCESSES`, sorted by host and program."""
    rolled = (
        events.group_by(_PROCESS)
        .agg(
            **_DONE,
            **_SPAN,
            hostname=_HOSTNAME,
            paths=pl.col("path").n_unique(),
            users=pl.col("uid").n_unique(),
        )
        .sort(_PROCESS)
        .collect()
    )
    return conform(rolled, "processes")


def users(events: pl.LazyFrame) -> pl.DataFrame:
    """Roll up one day's events to `lake.schema.USERS`, sorted by host and user.

    `user` is the newest name that is known; of several of one moment, the last in order.
    """
    rolled = (
        events.group_by(_USER)
        .agg(
            **_DONE,
            **_SPAN,
            hostname=_HOSTNAME,
            user=pl.col("user").sort_by("received_at", "user", nulls_last=False).drop_nulls().last(),
            paths=pl.col("path").n_unique(),
            processes=pl.col("process").n_unique(),
        )
        .sort(_USER)
        .collect()
    )
    return conform(rolled, "users")
