"""A large day in passes: each reads the day again and keeps a part of it, so that memory follows from the part."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

import polars as pl

from pipelines.progress import Progress

ROWS: Final = 8_000_000
"""Rows that a pass keeps, about: as many as fit in 1 GB with their texts."""


_TOLD: ContextVar[Progress | None] = ContextVar("told", default=None)


@contextmanager
def telling(progress: Progress) -> Iterator[None]:
    """Tell of every pass within as it begins; what computes over frames need not know of it."""
    before = _TOLD.set(progress)
    try:
        yield
    finally:
        _TOLD.reset(before)


def by_value(events: pl.LazyFrame, column: str, most: int = ROWS) -> Iterator[pl.LazyFrame]:
    """Yield rows in parts of at most `most`, all rows of a value of `column` in one part.

    For a column of few values, such as an agent's id; a value that has more rows is a part of its own.
    """
    sizes = events.group_by(column).len().sort("len", column, descending=[True, False]).collect(engine="streaming")
    parts: list[tuple[int, list[object]]] = []
    for value, rows in sizes.iter_rows():
        # Into the last part that was begun, else into a new one: the largest come first.
        if parts and parts[-1][0] + rows <= most:
            parts[-1] = parts[-1][0] + rows, [*parts[-1][1], value]
        else:
            parts.append((rows, [value]))
    if len(parts) <= 1:
        yield events
        return
    yield from _told([events.filter(pl.col(column).is_in(values, nulls_equal=True)) for _, values in parts])


def by_hash(events: pl.LazyFrame, column: str, most: int = ROWS) -> Iterator[pl.LazyFrame]:
    """Yield rows in parts of about `most`, all rows of a value of `column` in one part.

    For a column of many values. The seed is new each time, so that nobody can choose values that fall together.
    """
    rows = events.select(pl.len()).collect(engine="streaming").item()
    parts, seed = -(-rows // most), secrets.randbits(63)
    if parts <= 1:
        yield events
        return
    yield from _told([events.filter(pl.col(column).hash(seed) % parts == part) for part in range(parts)])


def _told(parts: Sequence[pl.LazyFrame]) -> Iterator[pl.LazyFrame]:
    progress = _TOLD.get()
    for number, part in enumerate(parts):
        if progress is not None:
            progress.tell("pass", number, len(parts))
        yield part
