"""Data files that we write ourselves: rows become files of a table first, and a commit names them afterwards.

delta-rs writes rows and commits them in one step. Apart, each kind of file is encoded in its own way, what is
expensive happens outside the lease, and a commit that is tried again writes no row twice.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import PurePosixPath
from typing import Any, Final

import polars as pl
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.transaction import AddAction, RemoveAction

from kaimon.base.access import accessing
from lake.clients import delta_options, polars_options
from lake.frames import frame_schema
from lake.schema import TABLES
from lake.settings import LakeSettings
from lake.stores import open_store
from lake.tables import open_table, table_place

TIME: Final = "time"
"""The column whose least and greatest value Delta's log holds for each file."""

_MILLISECOND: Final = timedelta(milliseconds=1)


@dataclass(frozen=True, order=True)
class StoredFile:
    """A file that is part of a table: its path below the table's folder, its partition, its bytes and its rows."""

    path: str
    day: date
    size: int
    rows: int

    @property
    def name(self) -> str:
        """Its name, without the folder."""
        return PurePosixPath(self.path).name

    def removed(self, table: str, *, same_rows: bool = True) -> RemoveAction:
        """Return the action that takes it out of the table; `same_rows`: other files have come to hold its rows."""
        now = round(datetime.now(UTC).timestamp() * 1000)
        return RemoveAction(self.path, not same_rows, now, self.size, _partition(table, self.day))


@dataclass(frozen=True, order=True)
class DataFile(StoredFile):
    """A file that we have put, and the range of its rows' times."""

    first: datetime
    last: datetime

    def added(self, table: str, *, new_rows: bool = True) -> AddAction:
        """Return the action that makes it part of the table; `new_rows`: other files did not hold its rows before."""
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
        return AddAction(self.path, self.size, _partition(table, self.day), made, new_rows, json.dumps(told))


def put_file(  # noqa: PLR0917 - what a file is
    tenant: str,
    table: str,
    day: date,
    data: bytes,
    told: tuple[int, datetime, datetime],
    settings: LakeSettings | None = None,
    name: str | None = None,
) -> DataFile:
    """Put a file into a table's folder, durably; it is no part of the table until a commit names it.

    Args:
        tenant: whose table.
        table: one of `lake.schema.TABLES`, kept by day.
        day: the file's partition.
        data: Parquet, as `lake.encoding.encode` gives it.
        told: its rows, and the least and greatest of their times.
        settings: where the lake is.
        name: what the file is to be called, without its ending; no other may ever have this name.

    Raises:
        StoreError: it may not be durable.
    """
    folder = f"{TABLES[table].partition}={day.isoformat()}"
    path = f"{folder}/{name or f'part-{uuid.uuid4().hex}'}.parquet"
    open_store("lake", settings).put_new(f"{tenant}/{table}/{path}", data)
    return DataFile(path, day, len(data), *told)


def files_of(handle: DeltaTable, table: str, day: date) -> list[StoredFile]:
    """Return the files that a day of a table consists of as this handle sees it, by path."""
    told: Any = handle.get_add_actions(flatten=True)
    frame = pl.DataFrame(pa.table(told))
    if frame.is_empty():
        return []
    partition = f"partition.{TABLES[table].partition}"
    rows = frame.filter(pl.col(partition) == day).select("path", partition, "size_bytes", "num_records").rows()
    return sorted(StoredFile(*row) for row in rows)


def read_files(tenant: str, table: str, day: date, settings: LakeSettings | None = None) -> list[StoredFile]:
    """Return the files that a day of a tenant's table consists of now, by path."""
    handle = open_table(tenant, table, settings)
    return [] if handle is None else files_of(handle, table, day)


def rows_by_day(
    tenant: str, table: str, first_day: date, last_day: date, settings: LakeSettings | None = None
) -> dict[date, int]:
    """Return how many rows each day of a tenant's table has, by Delta's log alone; days without any are left out."""
    handle = open_table(tenant, table, settings)
    if handle is None:
        return {}
    told: Any = handle.get_add_actions(flatten=True)
    frame, day = pl.DataFrame(pa.table(told)), f"partition.{TABLES[table].partition}"
    if frame.is_empty():
        return {}
    mine = frame.filter(pl.col(day).is_between(first_day, last_day))
    return dict(mine.group_by(day).agg(pl.col("num_records").sum()).iter_rows())


def paths_in(tenant: str, table: str, day: date, settings: LakeSettings | None = None) -> set[str]:
    """Return the paths below the table's folder of all files of a day, whether a commit names them or not."""
    top = f"{tenant}/{table}/"
    folder = f"{top}{TABLES[table].partition}={day.isoformat()}"
    return {stored.key.removeprefix(top) for stored in open_store("lake", settings).list(folder)}


def drop_files(tenant: str, table: str, files: Sequence[StoredFile], settings: LakeSettings | None = None) -> None:
    """Delete files that no commit has ever named.

    Raises:
        StoreError: some may still be there.
    """
    open_store("lake", settings).delete(f"{tenant}/{table}/{file.path}" for file in files)


def scan_files(
    tenant: str, table: str, files: Sequence[StoredFile], settings: LakeSettings | None = None
) -> pl.LazyFrame:
    """Return the rows of some files of one day, file after file, each in its own order.

    Files stay readable for days after another commit has taken them out of the table.
    """
    settings = settings or LakeSettings()
    place = table_place(tenant, table, settings)
    schema, partition = frame_schema(table), TABLES[table].partition
    [day] = {file.day for file in files}
    with accessing("storage", "lake.read", tenant, f"{table}/{day}") as told:
        told.count, told.bytes = sum(file.rows for file in files), sum(file.size for file in files)
    rows = pl.scan_parquet(
        [f"{place}/{file.path}" for file in files],
        schema=pl.Schema({name: dtype for name, dtype in schema.items() if name != partition}),
        missing_columns="insert",
        hive_partitioning=False,
        glob=False,
        **polars_options(delta_options(tenant, settings)),
    )
    return rows.with_columns(pl.lit(day).alias(str(partition))).select(schema.names())


def _partition(table: str, day: date) -> dict[str, str | None]:
    partition = TABLES[table].partition
    if partition is None:
        raise ValueError(f"{table} is not kept by day")
    return {partition: day.isoformat()}


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
