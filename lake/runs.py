"""Runs of an external sort: rows in order, in parts of which any can be read by itself, in one file without a name.

However many runs there are, they take one open file; nothing of it is left when the process dies, however it dies.
"""

from __future__ import annotations

import os
import tempfile
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import polars as pl
import pyarrow as pa

Key = tuple[Any, ...]
"""A row's values in those columns that order it. Python orders texts by code point, and so does Polars: by UTF-8."""

_AT_ONCE: Final = 65_536
"""Rows that are spelt out at a time on their way to the file."""


class Runs:
    """Rows that come piece after piece, each a run of its own; once all are there, ranges across all runs are read."""

    def __init__(self, path: str, closing: ExitStack, order: Sequence[str], part_rows: int) -> None:
        """Begin; see `open_runs`."""
        self.rows = 0
        self._path, self._closing, self._order, self._part_rows = path, closing, order, part_rows
        self._writer: Any = None
        self._reader: Any = None
        self._firsts: list[list[Key]] = []

    def add(self, rows: pl.DataFrame) -> list[Key]:
        """Write rows, which come in any order, as a run; return the key of one in `part_rows`, the first of each part.

        The rows are spelt out a little at a time; their order is found by their keys.
        """
        # Rows are gathered four times as fast from one chunk as from many.
        rows = rows.rechunk()
        index = rows.select(pl.arg_sort_by(self._order)).to_series()
        at_once = max(_AT_ONCE // self._part_rows, 1) * self._part_rows
        for first in range(0, rows.height, at_once):
            table = rows[index[first : first + at_once]].to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks()
            for at in range(0, table.num_rows, self._part_rows):
                self._write(table.slice(at, self._part_rows))
        # Values of Python: a frame of some rows keeps all the texts that they were taken from.
        self._firsts.append(rows.select(self._order)[index.gather_every(self._part_rows)].rows())
        self.rows += rows.height
        return self._firsts[-1]

    def between(self, lower: Key | None, upper: Key | None) -> tuple[list[pl.DataFrame], list[pl.DataFrame]]:
        """Return the rows of the parts that touch a range: of those that lie in it, and of those at its edges.

        Args:
            lower: the key with which it begins, None for the first of all.
            upper: the key before which it ends, None for the last of all.
        """
        self._finish()
        inner: list[pa.RecordBatch] = []
        edges: list[pa.RecordBatch] = []
        begin = 0
        for firsts in self._firsts:
            first = 0 if lower is None else max(bisect_left(firsts, lower) - 1, 0)
            last = len(firsts) if upper is None else bisect_left(firsts, upper)
            for part in range(first, last):
                is_inner = (lower is None or firsts[part] >= lower) and (
                    upper is None or (part + 1 < len(firsts) and firsts[part + 1] < upper)
                )
                (inner if is_inner else edges).append(self._reader.get_batch(begin + part))
            begin += len(firsts)
        return _frames(inner), _frames(edges)

    def _write(self, part: pa.Table) -> None:
        if self._writer is None:
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            target = self._closing.enter_context(pa.OSFile(self._path, "wb"))
            self._writer = pa.ipc.new_file(target, part.schema, options=options)
        self._writer.write_table(part)

    def _finish(self) -> None:
        if self._reader is None and self._writer is not None:
            self._writer.close()
            self._reader = pa.ipc.open_file(self._closing.enter_context(pa.OSFile(self._path, "rb")))


@contextmanager
def open_runs(folder: Path, order: Sequence[str], part_rows: int) -> Iterator[Runs]:
    """Yield a place for runs; it is gone afterwards.

    Args:
        folder: where their file is; made if need be.
        order: columns by which their rows are ordered, none of them null.
        part_rows: rows of a part, which is read as a whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file, ExitStack() as closing:
        yield Runs(f"/proc/{os.getpid()}/fd/{file.fileno()}", closing, order, part_rows)


def _frames(parts: Sequence[pa.RecordBatch]) -> list[pl.DataFrame]:
    """Return some parts as one frame, if there are any."""
    return [pl.DataFrame(pa.Table.from_batches(parts))] if parts else []
