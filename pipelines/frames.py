"""Frames of our tables: the Polars schema of each, and a frame put into it."""

from __future__ import annotations

from functools import cache

import polars as pl

from lake.schema import TABLES


@cache
def polars_schema(table: str) -> pl.Schema:
    """Return the Polars schema of one of `lake.schema.TABLES`."""
    empty = pl.from_arrow(TABLES[table].schema.empty_table())
    if not isinstance(empty, pl.DataFrame):
        raise TypeError(table)
    return empty.schema


def conform(frame: pl.DataFrame, table: str) -> pl.DataFrame:
    """Return the table's columns of `frame`, in order, cast to their types.

    Raises:
        polars.exceptions.PolarsError: a column is missing or cannot be cast without loss.
    """
    return frame.select(pl.col(name).cast(dtype) for name, dtype in polars_schema(table).items())
