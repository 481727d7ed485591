"""The rollups `top_paths`, `processes` and `users`: what a day's events did to what, and who did it."""

from __future__ import annotations

from typing import Final, TypeVar

import polars as pl

from pipelines.frames import conform
from pipelines.passes import by_hash, by_value
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
_Frame = TypeVar("_Frame", pl.LazyFrame, pl.DataFrame)
_PROCESS: Final = ["event_day", "agent_id", "process", "exe"]
_USER: Final = ["event_day", "agent_id", "uid", "login_uid"]


def top_paths(events: pl.LazyFrame, top: int = TOP) -> pl.DataFrame:
    """Roll up one day's events to `lake.schema.TOP_PATHS`: the `top` paths with the most occurrences, by rank."""
    # A path is whole in one part, so the first of all are among the first of the parts.
    rolled = _ranked(pl.concat(_ranked(_paths(part), top).collect() for part in by_hash(events, "path")), top)
    return conform(rolled.with_row_index("rank", offset=1), "top_paths")


def _ranked(paths: _Frame, top: int) -> _Frame:
    return paths.sort("events", "path", descending=[True, False]).head(top)


def _paths(events: pl.LazyFrame) -> pl.LazyFrame:
    return events.group_by("event_day", "path").agg(
        **_DONE,
        hosts=pl.col("agent_id").n_unique(),
        processes=pl.col("process").n_unique(),
        users=pl.col("uid").n_unique(),
    )


def processes(events: pl.LazyFrame) -> pl.DataFrame:
    """Roll up one day's events to `lake.schema.PROCESSES`, sorted by host and program."""
    rolled = pl.concat(_processes(part).collect() for part in by_value(events, "agent_id"))
    return conform(rolled.sort(_PROCESS), "processes")


def _processes(events: pl.LazyFrame) -> pl.LazyFrame:
    return events.group_by(_PROCESS).agg(
        **_DONE,
        **_SPAN,
        hostname=_HOSTNAME,
        paths=pl.col("path").n_unique(),
        users=pl.col("uid").n_unique(),
    )


def users(events: pl.LazyFrame) -> pl.DataFrame:
    """Roll up one day's events to `lake.schema.USERS`, sorted by host and user.

    `user` is the newest name that is known; of several of one moment, the last in order.
    """
    rolled = pl.concat(_users(part).collect() for part in by_value(events, "agent_id"))
    return conform(rolled.sort(_USER), "users")


def _users(events: pl.LazyFrame) -> pl.LazyFrame:
    return events.group_by(_USER).agg(
        **_DONE,
        **_SPAN,
        hostname=_HOSTNAME,
        user=pl.col("user").sort_by("received_at", "user", nulls_last=False).drop_nulls().last(),
        paths=pl.col("path").n_unique(),
        processes=pl.col("process").n_unique(),
    )
