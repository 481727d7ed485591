"""The two equations of the promise, recomputed from the tables alone.

For every CPU of every load, between any two of its batches:

    rows_unaccounted   = next_seq - distinct seq delivered - lost rows
    events_unaccounted = seen - Σ count delivered - lost events - filtered - pending

Both are 0 when every event is accounted for. Delivered means: in `events`, or in `quarantine` with its reason.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from pipelines.checks.ledger import BATCH, LOAD, LOST_EVENTS, LOST_ROWS, TOTALS, by_cpu, landed
from pipelines.checks.quarantined import LINES, STAGED, read_quarantined
from pipelines.passes import by_hash

CPU: Final = [*LOAD, "cpu"]
_DISTINCT_ROWS: Final = 24_000_000
"""Rows of which numbers are compared at once, about: some 300 MB, and as much again while they are sorted."""


def account(
    events: pl.DataFrame | pl.LazyFrame,
    batches: pl.DataFrame,
    quarantine: pl.DataFrame | None = None,
    baseline: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Return the two equations for every CPU of every load, one row each.

    Args:
        events: rows with at least `BATCH`, `cpu`, `seq`, `count`; those of other batches are left out.
        batches: the ledger's rows in question; only landed ones count.
        quarantine: the quarantine's rows; those of other batches are left out.
        baseline: each load's last batch before them. Without one the load is accounted for from its start.

    Returns:
        `CPU`; `TOTALS`, the counters' change; `delivered_rows` and `delivered_events` (from `events`);
        `quarantined_rows` and `quarantined_events`; `lost_rows`, `lost_events` (all causes); `rows_unaccounted`,
        `events_unaccounted`. Quarantined lines whose CPU cannot be read stand in a row of their own per load, with
        a null `cpu`, counters of 0 and so a negative remainder: over the load, the sum is still 0.
    """
    ours = landed(batches)
    counters = _change(ours, baseline)
    delivered = _delivered(events, ours)
    lines = _quarantined(quarantine, ours)
    frame = (
        counters.join(delivered, on=CPU, how="full", coalesce=True, nulls_equal=True)
        .join(lines, on=CPU, how="full", coalesce=True, nulls_equal=True)
        .with_columns(pl.exclude(CPU).fill_null(0))
        .with_columns(lost_rows=pl.sum_horizontal(LOST_ROWS), lost_events=pl.sum_horizontal(LOST_EVENTS))
    )
    return frame.with_columns(
        rows_unaccounted=pl.col("next_seq")
        - pl.col("delivered_rows")
        - pl.col("quarantined_rows")
        - pl.col("lost_rows"),
        events_unaccounted=pl.col("seen")
        - pl.col("delivered_events")
        - pl.col("quarantined_events")
        - pl.col("lost_events")
        - pl.col("filtered")
        - pl.col("pending"),
    ).sort(CPU, nulls_last=True)


def distinct_rows(events: pl.LazyFrame) -> pl.DataFrame:
    """Return how many different `seq` each CPU of each load has: `CPU`, `distinct` (int64).

    Rows are read by eight bytes and a small number for their CPU each, in passes: memory stays bounded.
    """
    cpus = events.select(CPU).unique().collect(engine="streaming").with_row_index("key")
    keyed = events.select(*CPU, "seq").join(cpus.lazy(), on=CPU, how="left", nulls_equal=True).select("key", "seq")
    found = [
        part.collect(engine="streaming")
        .sort("key", "seq")
        .filter((pl.col("key") != pl.col("key").shift()) | pl.col("seq").ne_missing(pl.col("seq").shift()))
        .group_by("key")
        .len("distinct")
        for part in by_hash(keyed, "seq", _DISTINCT_ROWS)
    ]
    summed = pl.concat(found).group_by("key").agg(pl.col("distinct").sum().cast(pl.Int64))
    return cpus.join(summed, on="key").drop("key")


def by_load(accounting: pl.DataFrame) -> pl.DataFrame:
    """Sum `account`'s answer over each load's CPUs and say whether both equations hold.

    Adds `holds`: no CPU has delivered more than it numbered, and what is missing on CPUs is exactly what arrived
    unreadable. So a surplus on one CPU never hides a gap on another.
    """
    readable = pl.col("cpu").is_not_null()
    numbers = [name for name in accounting.columns if name not in CPU]

    def holds(name: str) -> pl.Expr:
        over = (pl.col(name).filter(readable) < 0).sum() == 0
        return over & (pl.col(name).sum() == 0)

    return (
        accounting.group_by(LOAD)
        .agg(
            *(pl.col(name).sum() for name in numbers),
            holds=holds("rows_unaccounted") & holds("events_unaccounted"),
        )
        .sort(LOAD)
    )


def accounting_line(accounting: pl.DataFrame) -> str:
    """Return the events' equation over everything in `accounting`, in one sentence."""
    total = {
        name: int(accounting[name].sum())
        for name in (
            "seen",
            "delivered_events",
            "quarantined_events",
            "filtered",
            "lost_events",
            "pending",
            "events_unaccounted",
            "rows_unaccounted",
        )
    }
    delivered = total["delivered_events"] + total["quarantined_events"]
    quarantined = f" ({total['quarantined_events']:,} of them in quarantine)" if total["quarantined_events"] else ""
    pending = f"{'-' if total['pending'] < 0 else '+'} {abs(total['pending']):,} pending"
    rows = f", {total['rows_unaccounted']:,} rows unaccounted" if total["rows_unaccounted"] else ""
    return (
        f"{total['seen']:,} events seen = {delivered:,} delivered{quarantined} + {total['filtered']:,} filtered"
        f" + {total['lost_events']:,} lost {pending}; {total['events_unaccounted']:,} unaccounted{rows}"
    )


def missing_batches(batches: pl.DataFrame, baseline: pl.DataFrame | None = None) -> pl.DataFrame:
    """Return the numbers between a load's landed batches that never landed: `LOAD`, `first_seq`, `last_seq`.

    A hole is not yet a loss: a batch that ingest refused leaves one, and the next one's counters own up to it.
    """
    rows = landed(batches).select(BATCH)
    if baseline is not None:
        rows = pl.concat([rows, landed(baseline).select(BATCH)]).unique().sort(BATCH)
    return (
        rows.with_columns(before=pl.col("batch_seq").shift(1).over(LOAD).fill_null(0))
        .filter(pl.col("batch_seq") > pl.col("before") + 1)
        .select(*LOAD, first_seq=pl.col("before") + 1, last_seq=pl.col("batch_seq") - 1)
    )


def _change(ours: pl.DataFrame, baseline: pl.DataFrame | None) -> pl.DataFrame:
    last = by_cpu(ours.group_by(LOAD).agg(pl.all().sort_by("batch_seq").last())).drop("batch_seq")
    if baseline is None or baseline.is_empty():
        return last
    first = by_cpu(landed(baseline)).drop("batch_seq")
    return last.join(first, on=CPU, how="left", suffix="_before").select(
        *CPU, *(pl.col(name) - pl.col(f"{name}_before").fill_null(0) for name in TOTALS)
    )


def _delivered(events: pl.DataFrame | pl.LazyFrame, ours: pl.DataFrame) -> pl.DataFrame:
    rows = events.lazy().select(*BATCH, "cpu", "seq", "count")
    rows = rows.join(ours.lazy().select(BATCH), on=BATCH, how="semi")
    counted = rows.group_by(CPU).agg(delivered_events=pl.col("count").sum()).collect(engine="streaming")
    return counted.join(distinct_rows(rows), on=CPU, nulls_equal=True).select(
        *CPU, "delivered_events", delivered_rows="distinct"
    )


def _quarantined(quarantine: pl.DataFrame | None, ours: pl.DataFrame) -> pl.DataFrame:
    lines = pl.DataFrame(schema=LINES) if quarantine is None else read_quarantined(quarantine)
    return (
        lines.join(ours.select(STAGED), on=STAGED, how="semi")
        .group_by(CPU)
        .agg(
            quarantined_rows=pl.len().cast(pl.Int64),
            quarantined_events=pl.col("count").fill_null(1).sum(),
        )
    )
