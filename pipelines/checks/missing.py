"""Which rows are missing: the numbers that a CPU gave out, that never came, and that no known loss can cover."""

from __future__ import annotations

from typing import Final

import polars as pl

from pipelines.checks.accounting import CPU, account
from pipelines.checks.ledger import BATCH, LOST_ROWS, by_cpu, landed
from pipelines.checks.quarantined import LINES, STAGED, read_quarantined

SCHEMA: Final = {
    "agent_id": pl.String,
    "load_id": pl.String,
    "cpu": pl.Int32,
    "seq": pl.Int64,
    "batch_seq": pl.Int64,
    "certain": pl.Boolean,
}


def missing_rows(
    events: pl.DataFrame | pl.LazyFrame,
    batches: pl.DataFrame,
    quarantine: pl.DataFrame | None = None,
    baseline: pl.DataFrame | None = None,
    limit: int = 1000,
) -> pl.DataFrame:
    """Name the unaccounted rows of every CPU whose rows' equation does not hold; arguments as in `account`.

    A batch holds the rows numbered below its `next_seq` and not below the one before's, so each missing number
    belongs to the span of one batch. Where that span knows no loss the number is `certain`; where known losses
    share the span, its missing numbers are candidates, of which only some are unaccounted.

    Returns:
        At most `limit` rows of `agent_id`, `load_id`, `cpu`, `seq`, `batch_seq` (the landed batch that should have
        held it) and `certain`, in that order.
    """
    accounting = account(events, batches, quarantine, baseline).filter(
        (pl.col("rows_unaccounted") > 0) & pl.col("cpu").is_not_null()
    )
    if accounting.is_empty():
        return pl.DataFrame(schema=SCHEMA)
    spans = _spans(batches, baseline).join(accounting.select(CPU), on=CPU, how="semi")
    delivered = _delivered(events, batches, quarantine).join(accounting.select(CPU), on=CPU, how="semi")
    counted = (
        delivered.sort("seq")
        .join_asof(
            spans.select(*CPU, "batch_seq", "first", "next_seq").sort("first"),
            left_on="seq",
            right_on="first",
            by=CPU,
            strategy="backward",
            check_sortedness=False,
        )
        .filter(pl.col("seq") < pl.col("next_seq"))
        .group_by([*CPU, "batch_seq"])
        .agg(pl.col("seq").sort(), came=pl.len().cast(pl.Int64))
    )
    short = (
        spans.join(counted, on=[*CPU, "batch_seq"], how="left")
        .with_columns(pl.col("came").fill_null(0))
        .filter(pl.col("next_seq") - pl.col("first") - pl.col("came") > pl.col("lost").clip(lower_bound=0))
        .sort([*CPU, "batch_seq"])
    )
    found: list[pl.DataFrame] = []
    room = limit
    for span in short.iter_rows(named=True):
        if room <= 0:
            break
        gaps = _absent(span["first"], span["next_seq"], span["seq"] or [], room)
        room -= len(gaps)
        found.append(
            pl.DataFrame({"seq": gaps}, schema={"seq": pl.Int64}).select(
                *(pl.lit(span[name], dtype=SCHEMA[name]).alias(name) for name in CPU),
                "seq",
                batch_seq=pl.lit(span["batch_seq"], dtype=pl.Int64),
                certain=pl.lit(span["lost"] <= 0),
            )
        )
    return pl.concat(found) if found else pl.DataFrame(schema=SCHEMA)


def _absent(first: int, following: int, present: list[int], limit: int) -> list[int]:
    absent: list[int] = []
    at = first
    for seq in [*present, following]:
        absent.extend(range(at, min(seq, at + limit - len(absent))))
        if len(absent) >= limit:
            break
        at = max(at, seq + 1)
    return absent


def _spans(batches: pl.DataFrame, baseline: pl.DataFrame | None) -> pl.DataFrame:
    """Each landed batch and CPU: its numbers `[first, next_seq)` and the rows `lost` since the batch before."""
    columns = ["next_seq", "lost_total"]
    counters = by_cpu(landed(batches)).with_columns(lost_total=pl.sum_horizontal(LOST_ROWS), base=pl.lit(False))
    if baseline is not None and not baseline.is_empty():
        before = by_cpu(landed(baseline)).with_columns(lost_total=pl.sum_horizontal(LOST_ROWS), base=pl.lit(True))
        counters = pl.concat([counters, before])
    return (
        counters.select(*CPU, "batch_seq", "base", *columns)
        .sort([*CPU, "batch_seq"])
        .with_columns(pl.col(name).shift(1).over(CPU).fill_null(0).alias(f"{name}_before") for name in columns)
        .filter(~pl.col("base"))
        .select(
            *CPU,
            "batch_seq",
            "next_seq",
            first=pl.col("next_seq_before"),
            lost=pl.col("lost_total") - pl.col("lost_total_before"),
        )
    )


def _delivered(
    events: pl.DataFrame | pl.LazyFrame, batches: pl.DataFrame, quarantine: pl.DataFrame | None
) -> pl.DataFrame:
    ours = landed(batches)
    rows = (
        events.lazy()
        .select(*BATCH, "cpu", "seq")
        .join(ours.lazy().select(BATCH), on=BATCH, how="semi")
        .select(*CPU, "seq")
        .collect()
    )
    lines = pl.DataFrame(schema=LINES) if quarantine is None else read_quarantined(quarantine)
    kept = lines.join(ours.select(STAGED), on=STAGED, how="semi").drop_nulls("seq").select(*CPU, "seq")
    return pl.concat([rows, kept]).unique()
