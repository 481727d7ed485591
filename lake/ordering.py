"""The rows of a day in order, range after range: one range is in memory at a time, however long the day is.

What fits is sorted as it is. Else an external sort: each piece of the files is sorted into a run (`lake.runs`), and
each range is read from those parts of every run that touch it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from itertools import pairwise
from typing import Final

import polars as pl

from lake.files import StoredFile, scan_files
from lake.runs import Key, Runs, open_runs
from lake.settings import LakeSettings

ORDER: Final = ("path", "time", "agent_id", "load_id", "cpu", "seq")
"""How the rows of a sealed day are ordered: by path and time, and where these are the same by a row's identity."""

RANGE_ROWS: Final = 500_000
"""Rows of a range, about; so many events are some 0.25 GB, and three times that while they are sorted."""

_STEP: Final = 2_048
"""One row in so many, of each run, tells where ranges begin; so many are read of a run at a time."""

_RANGES_A_RUN: Final = 2
"""A run is as long as so many ranges: of half as many runs a range reads half as many edges in vain."""


def in_order(
    tenant: str,
    table: str,
    files: Sequence[StoredFile],
    settings: LakeSettings | None = None,
    *,
    is_ordered: frozenset[str] = frozenset(),
    range_rows: int = RANGE_ROWS,
    step: int = _STEP,
    told: Callable[[int], None] | None = None,
) -> Iterator[pl.DataFrame]:
    """Yield the rows of one day's files in `ORDER`, range after range, none of them empty.

    A range has `range_rows` rows at most, and `step` more for each run: one for so many rows of the day, and one for
    each file that is ordered already. Rows that are the same in all of `ORDER` stay in one range.

    Args:
        tenant: whose table.
        table: `events`, or another that has the columns of `ORDER`.
        files: of one day.
        settings: where the lake is; runs are written below its home.
        is_ordered: paths of those files whose rows are in `ORDER` already.
        range_rows: see above; no more are in memory at a time, beside what a run's parts that touch a range hold.
        step: see above; greater is coarser and cheaper, and more than a range has is none.
        told: called with the rows that are in runs, after each.
    """
    settings, step = settings or LakeSettings(), min(step, range_rows)
    if not files:
        return
    if sum(file.rows for file in files) <= range_rows:
        yield scan_files(tenant, table, files, settings).collect().sort(ORDER)
        return
    ordered: list[pl.LazyFrame] = []
    samples: list[Key] = []
    for file in (file for file in files if file.path in is_ordered):
        ordered.append(scan_files(tenant, table, [file], settings))
        for part in _parts(ordered[-1].select(ORDER), file.rows, range_rows):
            samples += part.gather_every(step).rows()
            del part
    loose = [file for file in files if file.path not in is_ordered]
    with open_runs(settings.home, ORDER, step) as runs:
        for piece in _pieces(tenant, table, loose, settings, _RANGES_A_RUN * range_rows):
            samples += runs.add(piece)
            del piece
            if told is not None:
                told(runs.rows)
        yield from _merged(runs, ordered, samples, range_rows, step)


def pieces_in_order(
    pieces: Iterable[pl.DataFrame],
    settings: LakeSettings | None = None,
    *,
    range_rows: int = RANGE_ROWS,
    step: int = _STEP,
) -> Iterator[pl.DataFrame]:
    """Yield rows that come piece after piece, in any order, as `in_order` yields those of files.

    Args:
        pieces: rows of one table that has the columns of `ORDER`; small ones are put together.
        settings: where runs are written: below its home.
        range_rows: as for `in_order`.
        step: as for `in_order`.
    """
    settings, step = settings or LakeSettings(), min(step, range_rows)
    packed = _packed(pieces, _RANGES_A_RUN * range_rows)
    first = next(packed, None)
    if first is None:
        return
    second = next(packed, None) if first.height <= range_rows else None
    if first.height <= range_rows and second is None:
        yield first.sort(ORDER)
        return
    begin = [rows for rows in (first, second) if rows is not None]
    del first, second
    with open_runs(settings.home, ORDER, step) as runs:
        samples: list[Key] = []
        while begin:
            samples += runs.add(begin.pop(0))
        for piece in packed:
            samples += runs.add(piece)
            del piece
        yield from _merged(runs, [], samples, range_rows, step)


def _packed(pieces: Iterable[pl.DataFrame], rows: int) -> Iterator[pl.DataFrame]:
    """Yield the same rows in pieces of at most so many, and as few of them as may be; none is empty."""
    together: list[pl.DataFrame] = []
    held = 0
    for piece in pieces:
        for part in piece.iter_slices(rows):
            if held and held + part.height > rows:
                yield pl.concat(together)
                together, held = [], 0
            together.append(part)
            held += part.height
    if held:
        yield pl.concat(together)


def _merged(
    runs: Runs, ordered: Sequence[pl.LazyFrame], samples: Sequence[Key], range_rows: int, step: int
) -> Iterator[pl.DataFrame]:
    bounds = _bounds(samples, max(range_rows // step, 1))
    for lower, upper in pairwise([None, *bounds, None]):
        part = _range(runs, ordered, lower, upper)
        if part.height:
            yield part
        # Or else it would stay until the next is made.
        del part


def _range(runs: Runs, ordered: Sequence[pl.LazyFrame], lower: Key | None, upper: Key | None) -> pl.DataFrame:
    """Return the rows from one key up to another, in order."""
    inner, edges = runs.between(lower, upper)
    within = _within(lower, upper)
    parts = [*inner, *(part.filter(within) for part in edges)]
    del inner, edges
    if ordered:
        parts.append(pl.concat(ordered).filter(within).collect())
    return pl.concat(parts).sort(ORDER)


def _pieces(
    tenant: str, table: str, files: Sequence[StoredFile], settings: LakeSettings, rows: int
) -> Iterator[pl.DataFrame]:
    """Yield the files' rows in pieces of at most so many rows, small files together."""
    together: list[StoredFile] = []
    for file in [*files, None]:
        if together and (file is None or sum(one.rows for one in together) + file.rows > rows):
            total = sum(one.rows for one in together)
            yield from _parts(scan_files(tenant, table, together, settings), total, rows)
            together = []
        if file is not None:
            together.append(file)


def _parts(frame: pl.LazyFrame, total: int, rows: int) -> Iterator[pl.DataFrame]:
    for first in range(0, total, rows):
        yield frame.slice(first, rows).collect()


def _bounds(sample: Sequence[Key], every: int) -> list[Key]:
    """Return the keys at which ranges begin, but for the first."""
    return list(dict.fromkeys(sorted(sample)[every::every]))


def _within(lower: Key | None, upper: Key | None) -> pl.Expr:
    """Say whether a row lies in a range: from its lower key on, before its upper one."""
    # What is said of the path alone says less, in words by which statistics leave parts shut.
    said = pl.lit(value=True)
    if lower is not None:
        said &= (pl.col("path") >= lower[0]) & _from(lower)
    if upper is not None:
        said &= (pl.col("path") <= upper[0]) & ~_from(upper)
    return said


def _from(bound: Key) -> pl.Expr:
    """Say whether a row comes at or after a bound in `ORDER`."""
    pairs = list(zip(ORDER, bound, strict=True))
    return reduce(
        lambda later, pair: (pl.col(pair[0]) > pair[1]) | ((pl.col(pair[0]) == pair[1]) & later),
        reversed(pairs),
        pl.lit(value=True),
    )
