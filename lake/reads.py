"""Reads of a tenant's tables as lazy frames; days are told by the partition column, so other days' files stay shut."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import polars as pl
from deltalake import DeltaTable

from kaimon.base.access import accessing
from lake.clients import delta_options, polars_options
from lake.frames import frame_schema
from lake.schema import TABLES
from lake.settings import LakeSettings
from lake.tables import silent_table


def scan(
    tenant: str,
    table: str,
    first_day: date | None = None,
    last_day: date | None = None,
    settings: LakeSettings | None = None,
) -> pl.LazyFrame:
    """Return a tenant's table as it is now, empty if nothing was ever written to it.

    Args:
        tenant: whose table.
        table: one of `lake.schema.TABLES`.
        first_day: leave out days before this one, by the table's partition.
        last_day: leave out days after this one.
        settings: where the lake is.

    Raises:
        ValueError: days are given for a table that has no partition.
    """
    partition = TABLES[table].partition
    if partition is None and (first_day or last_day):
        raise ValueError(f"{table} is not kept by day")
    settings = settings or LakeSettings()
    with accessing("storage", "lake.read", tenant, span_of(table, first_day, last_day)):
        handle = silent_table(tenant, table, settings)
    return frame_of(handle, tenant, table, (first_day, last_day), settings)


def scan_days(
    tenant: str, table: str, first_day: date, last_day: date, settings: LakeSettings | None = None
) -> Iterator[pl.LazyFrame]:
    """Yield a tenant's table day by day, the newest first, as it is when the first is asked for: it is opened once."""
    settings = settings or LakeSettings()
    with accessing("storage", "lake.read", tenant, span_of(table, first_day, last_day)):
        handle = silent_table(tenant, table, settings)
    while last_day >= first_day:
        yield frame_of(handle, tenant, table, (last_day, last_day), settings)
        last_day -= timedelta(days=1)


def span_of(table: str, first_day: date | None, last_day: date | None) -> str:
    """Return how the access log calls some days of a table."""
    return f"{table}/{first_day or ''}..{last_day or ''}" if first_day or last_day else table


def frame_of(
    handle: DeltaTable | None,
    tenant: str,
    table: str,
    days: tuple[date | None, date | None],
    settings: LakeSettings,
) -> pl.LazyFrame:
    """Return what `scan` does, of a table that is open."""
    partition, (first_day, last_day) = TABLES[table].partition, days
    if handle is None:
        return pl.LazyFrame(schema=frame_schema(table))
    frame = pl.scan_delta(handle, **polars_options(delta_options(tenant, settings))).select(frame_schema(table).names())
    if partition is not None and first_day is not None:
        frame = frame.filter(pl.col(partition) >= first_day)
    if partition is not None and last_day is not None:
        frame = frame.filter(pl.col(partition) <= last_day)
    return frame
