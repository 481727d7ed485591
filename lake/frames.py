"""Frames and tables: the Polars schema of a table, and a frame as its Arrow rows."""

from __future__ import annotations

from functools import cache

import polars as pl
import pyarrow as pa

from lake.schema import TABLES


@cache
def frame_schema(name: str) -> pl.Schema:
    """Return the Polars schema of one of `lake.schema.TABLES`."""
    return pl.DataFrame(TABLES[name].schema.empty_table()).schema


def to_rows(frame: pl.DataFrame, name: str) -> pa.Table:
    """Return a frame as rows of a table: its columns in order, its types, its rules for null.

    Raises:
        ValueError: a column is missing or too many, of another type, or null where it may not be.
    """
    schema = TABLES[name].schema
    if missing := set(schema.names) ^ set(frame.columns):
        raise ValueError(f"{name}: columns {sorted(missing)} are missing or too many")
    if frame.is_empty() and dict(frame.schema) == dict(frame_schema(name)):
        return schema.empty_table()
    rows = frame.select(schema.names).to_arrow(compat_level=pl.CompatLevel.oldest())
    try:
        return rows.cast(schema)
    except pa.ArrowException as error:
        raise ValueError(f"{name}: {error}") from error
