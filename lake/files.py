"""Data files that we write ourselves: rows become files of a table first, and a commit names them afterwards.

delta-rs writes rows and commits them in one step, on one core. Apart, the rows stream through Polars on every core,
what is expensive happens outside the lease, and a commit that is tried again writes no row twice.
"""

from __future__ import annotations

import io
import json
import uuid
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

import polars as pl
import pyarrow as pa
from deltalake.transaction import AddAction

from lake.frames import frame_schema
from lake.schema import TABLES
from lake.settings import LakeSettings
from lake.stores import open_store

TIME: Final = "time"
"""The column whose least and greatest value Delta's log holds for each file."""

_ROW_GROUP_ROWS: Final = 250_000
_MILLISECOND: Final = timedelta(milliseconds=1)


@dataclass(frozen=True, order=True)
class DataFile:
    """A file of a table: its path below the table's folder, its partition, its rows and the range of their times."""

    path: str
    day: date
    size: int
    rows: int
    first: datetime
    last: datetime

    def added(self, table: str) -> AddAction:
        """Return the action that makes it part of the table."""
        # Statistics are of whole milliseconds for every reader: rounded outwards, so that none leaves a file shut.
        first = self.first - timedelta(microseconds=self.first.microsecond % 1000)
        last = self.last + _MILLISECOND - timedelta(microseconds=self.last.microsecond % 1000)
        told = {
            "numRecords": self.rows,
            "minValues": {TIME: _stamp(first)},
            "maxValues": {TIME: _stamp(last)},
            "nullCount": {TIME: 0},
        }
        made = round(datetime.now(self.first.tzinfo).timestamp() * 1000)
        return AddAction(self.path, self.size, _partition(table, self.day), made, True, json.dumps(told))


def encode(rows: pl.LazyFrame, table: str) -> bytes:
    """Return rows of one partition as a Parquet file, zstd 1; they stream, the file alone is held in memory.

    Raises:
        ValueError: a column of the table is missing, or of another type.
        polars.exceptions.PolarsError: the rows cannot be read.
    """
    wanted = frame_schema(table)
    if (given := rows.collect_schema()) != wanted:
        raise ValueError(f"{table}: rows of {given}, not of {wanted}")
    target = io.BytesIO()
    rows.drop(TABLES[table].partition or []).sink_parquet(
        target,
        compression="zstd",
        compression_level=1,
        statistics={"min": False, "max": False, "distinct_count": False, "null_count": False},
        row_group_size=_ROW_GROUP_ROWS,
        arrow_schema=file_schema(table),
    )
    return target.getvalue()


def file_schema(table: str) -> pa.Schema:
    """Return the schema of a table's files, which refuses null where the table does.

    The partition is in their folder's name; texts are as Polars has them, which in Parquet is the same.
    """
    fields = [field for field in TABLES[table].schema if field.name != TABLES[table].partition]
    return pa.schema([field.with_type(pa.large_string()) if field.type == pa.string() else field for field in fields])


def put_file(  # noqa: PLR0917 - what a file is
    tenant: str,
    table: str,
    day: date,
    data: bytes,
    told: tuple[int, datetime, datetime],
    settings: LakeSettings | None = None,
) -> DataFile:
    """Put a file into a table's folder, durably; it is no part of the table until a commit names it.

    Args:
        tenant: whose table.
        table: one of `lake.schema.TABLES`, kept by day.
        day: the file's partition.
        data: Parquet, as `encode` gives it.
        told: its rows, and the least and greatest of their times.
        settings: where the lake is.

    Raises:
        StoreError: it may not be durable.
    """
    folder = f"{TABLES[table].partition}={day.isoformat()}"
    path = f"{folder}/part-{uuid.uuid4().hex}.parquet"
    open_store("lake", settings).put_new(f"{tenant}/{table}/{path}", data)
    return DataFile(path, day, len(data), *told)


def _partition(table: str, day: date) -> dict[str, str | None]:
    partition = TABLES[table].partition
    if partition is None:
        raise ValueError(f"{table} is not kept by day")
    return {partition: day.isoformat()}


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
