"""How much each host did on a day, held against its own days of four weeks before."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Final

import polars as pl

from pipelines.tables import Snapshot

WEEKS: Final = timedelta(days=28)
_DAYS: Final = 7
"""How many days of a host must be known before it is judged."""
_FACTOR: Final = 10


def hosts_off_volume(snapshot: Snapshot, day: date) -> int:
    """Count the hosts of a day with events less than a tenth, or more than ten times, of their median day.

    By the rollup `activity` of the four weeks before, so that it costs what a few thousand rows cost. A host that is
    known of fewer than seven days is not judged; one that was there in those weeks and has no event today counts.
    """
    before = snapshot.scan("activity", day - WEEKS, day - timedelta(days=1))
    days = before.group_by("agent_id", "event_day").agg(pl.col("events").sum())
    usual = (
        days.group_by("agent_id").agg(usual=pl.col("events").median(), days=pl.len()).filter(pl.col("days") >= _DAYS)
    )
    today = snapshot.scan("events", day, day).group_by("agent_id").agg(now=pl.col("count").sum())
    both = usual.join(today, on="agent_id", how="left").with_columns(pl.col("now").fill_null(0))
    off = (pl.col("now") * _FACTOR < pl.col("usual")) | (pl.col("now") > pl.col("usual") * _FACTOR)
    return int(both.filter(off).select(pl.len()).collect().item())
