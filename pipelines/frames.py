"""A frame put into the form of one of our tables."""

from __future__ import annotations

import polars as pl

from lake.frames import frame_schema


def conform(frame: pl.DataFrame, table: str) -> pl.DataFrame:
    """Return the table's columns of `frame`, in order, cast to their types.

    Raises:
        polars.exceptions.PolarsError: a column is missing or cannot be cast without loss.
    """
    return frame.select(pl.col(name).cast(dtype) for name, dtype in frame_schema(table).items())


def empty(table: str) -> pl.DataFrame:
    """Return no rows of a table."""
    return pl.DataFrame(schema=frame_schema(table))
