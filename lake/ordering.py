"""The rows of a day in order, range after range: one range is in memory at a time, however long the day is.

What fits is sorted as it is. Else an external sort: each piece of the files is sorted into a run on disk, and each
range is read from every run, of which statistics open only the parts that touch it. Runs are files without a name:
nothing of them is left when the process dies, however it dies.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import reduce
from itertools import chain
from pathlib import Path
from typing import IO, Any, Final

import polars as pl

from lake.files import StoredFile, scan_files
from lake.settings import LakeSettings

ORDER: Final = ("path", "time", "agent_id", "load_id", "cpu", "seq")
"""How the rows of a sealed day are ordered: by path and time, and where these are the same by a row's identity."""

RANGE_ROWS: Final = 1_000_000
"""Rows of a range, about; a million events are some 0.5 GB while they are sorted."""

_STEP: Final = 4_096
"""One row in so many, of each run, tells where ranges begin."""

_RUN_GROUP_ROWS: Final = 16_384


def in_order(
    tenant: str,
    table: str,
    files: Sequence[StoredFile],
    settings: LakeSettings | None = None,
    *,
    is_ordered: frozenset[str] = frozenset(),
    range_rows: int = RANGE_ROWS,
    step: int = _STEP,
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
        step: see above; greater is coarser and cheaper.
    """
    settings = settings or LakeSettings()
    if not files:
        return
    if sum(file.rows for file in files) <= range_rows:
        yield scan_files(tenant, table, files, settings).collect().sort(ORDER)
        return
    with ExitStack() as stack:
        runs: list[pl.LazyFrame] = []
        samples: list[pl.DataFrame] = []
        for file in (file for file in files if file.path in is_ordered):
            runs.append(scan_files(tenant, table, [file], settings))
            samples += [
                part.select(ORDER).gather_every(step) for part in _parts(runs[-1].select(ORDER), file.rows, range_rows)
            ]
        loose = [file for file in files if file.path not in is_ordered]
        for rows in _pieces(tenant, table, loose, settings, range_rows):
            samples.append(_add_run(runs, rows.sort(ORDER), settings, stack, step))
            del rows
        yield from _merged(runs, samples, range_rows, step)


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
    settings = settings or LakeSettings()
    packed = _packed(pieces, range_rows)
    begin = [rows for _, rows in zip(range(2), packed, strict=False)]
    if len(begin) < 2:
        yield from (rows.sort(ORDER) for rows in begin)
        return
    with ExitStack() as stack:
        runs: list[pl.LazyFrame] = []
        samples = [_add_run(runs, rows.sort(ORDER), settings, stack, step) for rows in chain(begin, packed)]
        begin.clear()
        yield from _merged(runs, samples, range_rows, step)


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


def _add_run(
    runs: list[pl.LazyFrame], ordered: pl.DataFrame, settings: LakeSettings, stack: ExitStack, step: int
) -> pl.DataFrame:
    """Make a run of ordered rows, and return the sample that tells where ranges begin."""
    with ExitStack() as opening:
        file = opening.enter_context(tempfile.TemporaryFile(dir=_there(settings.home)))
        runs.append(_spill(ordered, file))
        stack.push(opening.pop_all())
    return ordered.select(ORDER).gather_every(step)


def _merged(
    runs: list[pl.LazyFrame], samples: list[pl.DataFrame], range_rows: int, step: int
) -> Iterator[pl.DataFrame]:
    whole = pl.concat(runs)
    for between in _ranges(pl.concat(samples), max(range_rows // step, 1)):
        part = whole.filter(between).collect().sort(ORDER)
        if part.height:
            yield part


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


def _there(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _spill(rows: pl.DataFrame, file: IO[bytes]) -> pl.LazyFrame:
    rows.write_parquet(file, compression="lz4", statistics=True, row_group_size=_RUN_GROUP_ROWS)
    file.flush()
    return pl.scan_parquet(f"/proc/{os.getpid()}/fd/{file.fileno()}", glob=False)


def _ranges(sample: pl.DataFrame, every: int) -> Iterator[pl.Expr]:
    """Yield what tells the rows of each range: a bound is the key of a row, in the range that begins with it."""
    bounds: list[Any] = sample.sort(ORDER).gather_every(every, offset=every).unique(maintain_order=True).rows()
    for lower, upper in zip([None, *bounds], [*bounds, None], strict=True):
        if lower is None and upper is None:
            yield pl.lit(value=True)
        elif lower is None:
            yield (pl.col("path") <= upper[0]) & ~_from(upper)
        elif upper is None:
            yield (pl.col("path") >= lower[0]) & _from(lower)
        else:
            # The first two say less than the others, in words by which statistics leave parts shut.
            yield (pl.col("path") >= lower[0]) & (pl.col("path") <= upper[0]) & _from(lower) & ~_from(upper)


def _from(bound: tuple[Any, ...]) -> pl.Expr:
    """Say whether a row comes at or after a bound in `ORDER`."""
    pairs = list(zip(ORDER, bound, strict=True))
    return reduce(
        lambda later, pair: (pl.col(pair[0]) > pair[1]) | ((pl.col(pair[0]) == pair[1]) & later),
        reversed(pairs),
        pl.lit(value=True),
    )
