"""What a tenant's tables hold by day, from Delta's logs alone: no file of rows is opened, however much there is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import polars as pl
import pyarrow as pa

from kaimon.base.access import accessing
from lake.schema import TABLES
from lake.settings import LakeSettings
from lake.tables import silent_table


@dataclass(frozen=True)
class TableDay:
    """A UTC day of a table (None: not kept by day), in files, bytes and rows; rows None where a file tells none."""

    table: str
    day: date | None
    files: int
    bytes: int
    rows: int | None


def held_by_day(tenant: str, settings: LakeSettings | None = None) -> list[TableDay]:
    """Return what the newest version of each table of a tenant consists of, in the order of `TABLES`, then of days.

    Files that others have replaced, and that are not deleted yet, are in none.

    Raises:
        ValueError: the tenant's id is not one.
        deltalake.exceptions.DeltaError: a table cannot be read.
    """
    settings = settings or LakeSettings()
    with accessing("storage", "lake.held", tenant) as told:
        found = [one for table in TABLES for one in _days(tenant, table, settings)]
        told.count, told.bytes = sum(one.files for one in found), sum(one.bytes for one in found)
    return found


def _days(tenant: str, table: str, settings: LakeSettings) -> list[TableDay]:
    handle = silent_table(tenant, table, settings)
    if handle is None:
        return []
    frame = pl.DataFrame(pa.table(handle.get_add_actions(flatten=True)))
    if frame.is_empty():
        return []
    partition = TABLES[table].partition
    day = pl.lit(None, pl.Date) if partition is None else pl.col(f"partition.{partition}")
    rows = pl.col("num_records") if "num_records" in frame.columns else pl.lit(None, pl.Int64)
    known = frame.select(day=day, size="size_bytes", rows=rows)
    # A sum leaves out what is null: a day with one such file is not that many rows.
    counted = pl.when(pl.col("rows").is_null().any()).then(None).otherwise(pl.col("rows").sum())
    by_day = known.group_by("day").agg(pl.len().alias("files"), pl.col("size").sum(), counted.alias("rows")).sort("day")
    return [TableDay(table, *row) for row in by_day.iter_rows()]
