"""One metrics row a tenant: everything that a day's rules look at, computed in one pass over the day's events."""

from __future__ import annotations

from typing import Any

import polars as pl

from lake.frames import frame_schema
from lake.schema import BATCHES, EVENTS
from pipelines.checks.accounting import by_load, distinct_rows
from pipelines.checks.ledger import BATCH


def event_metrics(events: pl.LazyFrame) -> dict[str, int]:
    """Measure one day's rows of `events`: how many, and how many break each rule that a row can break."""
    problems = _schema_problems(events.collect_schema())
    if problems:
        return {"rows": 0, "schema_problems": problems}
    required = [column.name for column in EVENTS if not column.nullable]
    domains = [
        (pl.col(column.name).is_in(column.domain).not_() & pl.col(column.name).is_not_null()).sum()
        for column in EVENTS
        if column.domain
    ]
    ranges = [(pl.col("count") < 1).sum(), (pl.col("cpu") < 0).sum(), (pl.col("seq") < 0).sum()]
    measured = events.select(
        rows=pl.len(),
        nulls=pl.sum_horizontal(pl.col(required).null_count()),
        outside_domain=pl.sum_horizontal([*domains, *ranges]),
        outside_day=(pl.col("time").dt.date() != pl.col("event_day")).sum(),
    ).collect(engine="streaming")
    told = {name: int(value) for name, value in measured.row(0, named=True).items()}
    distinct = int(distinct_rows(events)["distinct"].sum())
    return {"schema_problems": 0} | told | {"doubled_rows": told["rows"] - distinct}


def ledger_metrics(
    day_batches: pl.DataFrame, cut: pl.DataFrame, arrived: pl.DataFrame, accounting: pl.DataFrame
) -> dict[str, int]:
    """Measure a day's ledger against the tables.

    Args:
        day_batches: the ledger's rows that arrived that day, whatever became of them.
        cut: the landed batches in question.
        arrived: `pipelines.rollups.completeness.arrivals` of these batches.
        accounting: `pipelines.checks.accounting.account` of these batches.
    """
    came = arrived.filter(pl.col("node").is_null()).select(*BATCH, came="rows")
    both = cut.select(*BATCH, said=pl.col("rows") - pl.col("quarantined")).join(came, on=BATCH, how="left")
    loads = by_load(accounting)
    return {
        "batches": cut.height,
        "ledger_difference": int(both.select((pl.col("said") - pl.col("came").fill_null(0)).abs().sum()).item()),
        "rows_unaccounted": int(loads["rows_unaccounted"].abs().sum()),
        "events_unaccounted": int(loads["events_unaccounted"].abs().sum()),
        "loads_unbalanced": int((~loads["holds"]).sum()),
        "conflicting_batches": day_batches.filter(pl.col("outcome") == "conflict").height,
    }


def ledger_values(day_batches: pl.DataFrame) -> dict[str, int]:
    """Measure the values of a day's ledger rows: nulls where there may be none, and what is outside its domain."""
    required = [column.name for column in BATCHES if not column.nullable]
    domains = [(~pl.col(column.name).is_in(column.domain)).sum() for column in BATCHES if column.domain]
    counts = [(pl.col(name) < 0).sum() for name in ("rows", "occurrences", "rejected", "quarantined")]
    measured = day_batches.select(
        ledger_nulls=pl.sum_horizontal(pl.col(required).null_count()),
        ledger_outside_domain=pl.sum_horizontal([*domains, *counts, (pl.col("batch_seq") < 1).sum()]),
    )
    return {name: int(value) for name, value in measured.row(0, named=True).items()}


def rows_without_batch(events: pl.LazyFrame, landed: pl.LazyFrame) -> int:
    """Count the rows of `events` whose batch is not among `landed`."""
    strays = events.group_by(BATCH).len().join(landed.select(BATCH), on=BATCH, how="anti")
    return int(strays.select(pl.col("len").sum()).collect(engine="streaming").item())


def _schema_problems(found: pl.Schema) -> int:
    wanted: dict[str, Any] = dict(frame_schema("events"))
    names = wanted.keys() | found.keys()
    return sum(1 for name in names if wanted.get(name) != found.get(name))
