"""The ledger as the equations need it: landed batches, their counters, and what changed from one to the next."""

from __future__ import annotations

from typing import Final

import polars as pl

from lake.columns import CAUSES

LOAD: Final = ["agent_id", "load_id"]
BATCH: Final = [*LOAD, "batch_seq"]
LOST_ROWS: Final = [f"lost_rows_{cause}" for cause in CAUSES]
LOST_EVENTS: Final = [f"lost_events_{cause}" for cause in CAUSES]
TOTALS: Final = ["seen", "filtered", "pending", "next_seq", *LOST_ROWS, *LOST_EVENTS]
"""The counters of DESIGN §3, flat; cumulative since the load."""


def landed(batches: pl.DataFrame) -> pl.DataFrame:
    """Return the batches whose rows are in the tables: outcome `landed`, one row an identity."""
    return batches.filter(pl.col("outcome") == "landed").unique(BATCH, keep="first").sort(BATCH)


def by_cpu(batches: pl.DataFrame) -> pl.DataFrame:
    """Return one row a batch and CPU: `BATCH`, `cpu` (int32) and `TOTALS` (int64), cumulative since the load."""
    flat = batches.select(*BATCH, "counters").explode("counters").drop_nulls("counters").unnest("counters")
    lost = [
        pl.col(field).struct.field(cause).alias(f"{field}_{cause}")
        for field in ("lost_rows", "lost_events")
        for cause in CAUSES
    ]
    return flat.select(*BATCH, "cpu", "seen", "filtered", "pending", "next_seq", *lost)


def deltas(batches: pl.DataFrame) -> pl.DataFrame:
    """Return one row a landed batch with what changed since the landed batch before it in its load.

    Beside the ledger's own columns: `TOTALS` as differences summed over CPUs (the first batch of a load differs
    from zero), `previous_seq` (0 if it is the first), `previous_sent_at`, and `hole`: numbers between the two that
    never landed. `batches` must hold, for each load, the batch before the first one of interest.
    """
    element = pl.element()
    totals = [
        pl.col("counters").list.eval(element.struct.field(field)).list.sum().alias(field)
        for field in ("seen", "filtered", "pending", "next_seq")
    ] + [
        pl.col("counters")
        .list.eval(element.struct.field(field).struct.field(cause))
        .list.sum()
        .alias(f"{field}_{cause}")
        for field in ("lost_rows", "lost_events")
        for cause in CAUSES
    ]
    return (
        landed(batches)
        .with_columns(totals)
        .with_columns(pl.col(name) - pl.col(name).shift(1).over(LOAD).fill_null(0) for name in TOTALS)
        .with_columns(
            previous_seq=pl.col("batch_seq").shift(1).over(LOAD).fill_null(0),
            previous_sent_at=pl.col("sent_at").shift(1).over(LOAD),
        )
        .with_columns(hole=pl.col("batch_seq") > pl.col("previous_seq") + 1)
    )
