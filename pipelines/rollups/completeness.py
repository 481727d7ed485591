"""The `completeness` rollup: for every host and hour, how much of it we know."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Final

import polars as pl

from lake.columns import CAUSES
from pipelines.checks.ledger import BATCH, LOST_EVENTS, LOST_ROWS, deltas
from pipelines.checks.quarantined import STAGED, read_quarantined, released
from pipelines.frames import conform, empty
from pipelines.rollups.spans import KINDS, by_hour, spans

_HOUR: Final = ["agent_id", "hour"]
_SUMS: Final = ["seen", "arrived", "filtered", "pending", *LOST_EVENTS, "lost_rows"]


def arrivals(events: pl.LazyFrame, quarantine: pl.DataFrame) -> pl.DataFrame:
    """Return what arrived in each batch, from the tables: `BATCH`, `node`, `segment_seq`, `rows`, `arrived`.

    `rows` are rows or lines, without those that came out of quarantine later; `arrived` are occurrences. `node` and
    `segment_seq` are null for events, whose batch is the one that landed. A quarantined line that does not say its
    count stands for one.
    """
    rows = (
        events.group_by(BATCH)
        .agg(rows=pl.len().cast(pl.Int64), arrived=pl.col("count").sum())
        .collect(engine="streaming")
        .join(released(quarantine), on=BATCH, how="left")
        .with_columns(rows=pl.col("rows") - pl.col("released").fill_null(0))
        .drop("released")
    )
    lines = (
        read_quarantined(quarantine)
        .group_by(STAGED)
        .agg(rows=pl.len().cast(pl.Int64), arrived=pl.col("count").fill_null(1).sum())
    )
    return pl.concat([rows, lines], how="diagonal")


def completeness(batches: pl.DataFrame, arrived: pl.DataFrame, day: date, now: datetime) -> pl.DataFrame:
    """Return `lake.schema.COMPLETENESS` for one day: every agent, every hour that has begun.

    A batch's counters are exact where it was cut, so what changed since the batch before is put into the hour of
    `sent_at`: an hour's numbers are off by at most one batch at either end, their sum is exact. Spans between
    consecutive batches vouch for time (`pipelines.rollups.spans`).

    The verdict: `not_monitored` if no part of the hour was; else `unknown` if any part is silent, or batches are
    missing and nobody owns up to what they held; else `partial` if anything is known lost or unaccounted; else
    `complete`.

    Args:
        batches: the ledger around the day: of each load that touches it, the batch before and the one after; of
            each other agent, its newest batch before the day.
        arrived: `arrivals` of at least the batches cut on that day.
        day: the UTC day.
        now: aware; hours that begin later are left out.
    """
    start = datetime.combine(day, time(), UTC)
    end = min(start + timedelta(days=1), now)
    known = pl.col("sent_at").min().over("agent_id") < end
    ledger = deltas(batches).filter(known)
    if ledger.is_empty() or end <= start:
        return empty("completeness")
    timeline = by_hour(spans(ledger, start, end))
    hours = _account(ledger, arrived, start)
    hosts = ledger.sort("sent_at").group_by("agent_id").agg(pl.col("hostname").last())
    frame = (
        timeline.join(hours, on=_HOUR, how="left")
        .join(hosts, on="agent_id")
        .with_columns(pl.col(*_SUMS, "unaccounted").fill_null(0), pl.col("hole").fill_null(value=False))
        .with_columns(
            event_day=pl.lit(day),
            captured=pl.col("arrived"),
            covered_s=pl.col("covered").dt.total_microseconds() / 1_000_000,
            state=_state(),
        )
        .rename({f"lost_events_{cause}": f"lost_{cause}" for cause in CAUSES})
        .sort("hour", "hostname", "agent_id")
    )
    return conform(frame, "completeness")


def _state() -> pl.Expr:
    monitored = pl.any_horizontal(pl.col(kind) > timedelta(0) for kind in KINDS if kind != "not_monitored")
    lost = (pl.sum_horizontal(LOST_EVENTS) > 0) | (pl.col("lost_rows") > 0)
    return (
        pl.when(~monitored & (pl.col("seen") == 0) & (pl.col("arrived") == 0))
        .then(pl.lit("not_monitored"))
        .when((pl.col("silent") > timedelta(0)) | pl.col("hole"))
        .then(pl.lit("unknown"))
        .when(lost | (pl.col("unaccounted") != 0))
        .then(pl.lit("partial"))
        .otherwise(pl.lit("complete"))
    )


def _account(ledger: pl.DataFrame, arrived: pl.DataFrame, start: datetime) -> pl.DataFrame:
    """Each agent's and hour's sums over the batches cut in it."""
    today = ledger.filter((pl.col("sent_at") >= start) & (pl.col("sent_at") < start + timedelta(days=1)))
    from_events = arrived.filter(pl.col("node").is_null()).select(*BATCH, from_events="arrived")
    from_lines = arrived.filter(pl.col("node").is_not_null()).select(*STAGED, from_lines="arrived")
    rest = pl.col("seen") - pl.col("arrived") - pl.col("filtered") - pl.col("pending") - pl.sum_horizontal(LOST_EVENTS)
    return (
        today.join(from_events, on=BATCH, how="left")
        .join(from_lines, on=STAGED, how="left")
        .with_columns(
            hour=pl.col("sent_at").dt.truncate("1h"),
            arrived=pl.col("from_events").fill_null(0) + pl.col("from_lines").fill_null(0),
            lost_rows=pl.sum_horizontal(LOST_ROWS),
        )
        .with_columns(unaccounted=rest)
        .group_by(_HOUR)
        .agg(
            pl.col(*_SUMS, "unaccounted").sum(),
            capture_mode=pl.col("capture_mode").sort_by("batch_seq").last(),
            hole=(pl.col("hole") & (pl.col("unaccounted") != 0)).any(),
        )
    )
