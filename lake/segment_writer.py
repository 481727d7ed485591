"""A segment's file by compiled code, in a fraction of the time that Parquet's own writer takes.

The file is one row group of one page a column. Numbers that run up are packed differences; all else has a dictionary,
which is under zstd where that pays. `segment_*.c` beside this are the code, `script/build-native` compiles them.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from ctypes import POINTER, Structure, byref, c_char_p, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import zstandard

from kaimon.base.logs import get_logger
from lake.native import ArrowArray, load
from lake.schema import EVENTS

COUNTING: Final = frozenset({"line", "time", "last_time", "monotonic_ns", "seq", "pid", "process_start", "inode"})
"""Columns that run up or take many values: the differences are small, or a dictionary would be made in vain."""
SQUEEZED: Final = frozenset({"code", "detail", "raw", "path", "target_path", "container_id"})
"""Columns that zstd still makes smaller; what the encoding leaves of the others is less than zstd's beginning costs."""

_COLUMNS: Final = [("batch", "int32"), ("line", "int32")] + [
    (column.name, column.kind) for column in EVENTS if column.source == "event"
]
_KINDS: Final = {"string": 0, "int32": 1, "int64": 2, "timestamp": 3}
_TEXT, _THERE, _ONE = 0, 0, 2
_LEAST_SQUEEZED: Final = 256
"""Bytes of a dictionary below which zstd's beginning costs more than it saves."""
_OF_THREAD: Final = threading.local()


class _Field(Structure):
    _fields_ = (("name", c_char_p), ("kind", c_int64), ("counting", c_int64))


class _Said(Structure):
    _fields_ = (
        ("state", c_int64),
        ("number", c_int64),
        ("text", c_void_p),
        ("text_size", c_int64),
        ("dictionary", c_void_p),
        ("dictionary_size", c_int64),
    )


_FIELDS: Final = (_Field * len(_COLUMNS))(
    *(_Field(name.encode(), _KINDS[kind], name in COUNTING) for name, kind in _COLUMNS)
)
_Constants = dict[str, int | str | None]


class Writer:
    """The compiled code. Safe to share among threads, which it does not hold up."""

    def __init__(self, library: Path | None = None) -> None:
        """Load it, from `library` if it is not in its place.

        Raises:
            OSError: it is not there, or was not made of this source.
        """
        code = load("segment", Path(__file__).parent, library)
        self._seed = ctypes.create_string_buffer(os.urandom(32), 32)
        self._make_pages, self._make_file = code.make_pages, code.make_file
        self._make_pages.argtypes = (
            c_void_p, c_int64, POINTER(ArrowArray), c_int64, POINTER(c_int64), c_int64, c_void_p, POINTER(_Said),
        )  # fmt: skip
        self._make_file.argtypes = (
            c_void_p, POINTER(c_char_p), POINTER(c_int64), c_char_p, c_char_p, c_int64, POINTER(c_int64),
        )  # fmt: skip
        self._make_pages.restype = self._make_file.restype = c_void_p
        self._forget_pages, self._forget_file, self._forget_pieces = (
            code.forget_pages, code.forget_file, code.forget_pieces,
        )  # fmt: skip
        self._forget_pages.argtypes = self._forget_file.argtypes = (c_void_p,)
        self._forget_pieces.argtypes = (POINTER(ArrowArray), c_int64)
        self._forget_pages.restype = self._forget_file.restype = self._forget_pieces.restype = None

    def write(
        self,
        tables: Sequence[pa.Table],
        batches: Sequence[int],
        key: bytes,
        head_of: Callable[[Mapping[str, int | str | None]], bytes],
    ) -> bytes | None:
        """Return a segment's file; None if there is so much of a column that a page cannot hold it.

        Args:
            tables: rows as `lake.segments.ROWS` or `CODED_ROWS`, at least one in all.
            batches: how many of them each batch has; in all, as many as there are.
            key: of the file's metadata.
            head_of: its value, given the event columns that have one value, or none, in every row; these are left out.
        """
        given = [piece for table in tables for piece in table.to_batches() if piece.num_rows]
        if not given or sum(piece.num_rows for piece in given) != sum(batches):
            raise ValueError("no rows, or not as many as the batches say")
        pieces = (ArrowArray * len(given))()
        said = (_Said * len(_COLUMNS))()
        pages = None
        try:
            for made, piece in zip(pieces, given, strict=True):
                piece._export_to_c(ctypes.addressof(made))  # noqa: SLF001
            counts = (c_int64 * len(batches))(*batches)
            pages = self._make_pages(_FIELDS, len(_COLUMNS), pieces, len(given), counts, len(batches), self._seed, said)
            if pages is None:
                raise MemoryError
            return self._file(pages, said, key, head_of(_constants(said)))
        finally:
            self._forget_pages(pages)
            self._forget_pieces(pieces, len(given))

    def _file(self, pages: Any, said: Any, key: bytes, head: bytes) -> bytes | None:
        squeezed, sizes, size = (c_char_p * len(_COLUMNS))(), (c_int64 * len(_COLUMNS))(), c_int64()
        for place in _SQUEEZED_PLACES:
            told = said[place]
            if told.state != _THERE or told.dictionary_size < _LEAST_SQUEEZED:
                continue
            smaller = _compressor().compress(ctypes.string_at(told.dictionary, told.dictionary_size))
            if len(smaller) < told.dictionary_size:
                squeezed[place], sizes[place] = smaller, len(smaller)
        file = self._make_file(pages, squeezed, sizes, key, head, len(head), byref(size))
        if file is None:
            if size.value < 0:
                return None
            raise MemoryError
        try:
            return ctypes.string_at(file, size.value)
        finally:
            self._forget_file(file)


_SQUEEZED_PLACES: Final = [place for place, (name, _) in enumerate(_COLUMNS) if name in SQUEEZED]


def _constants(said: Any) -> _Constants:
    constants: _Constants = {}
    for (name, kind), told in zip(_COLUMNS, said, strict=True):
        if told.state == _THERE:
            continue
        if told.state != _ONE:
            constants[name] = None
        elif _KINDS[kind] == _TEXT:
            constants[name] = ctypes.string_at(told.text, told.text_size).decode()
        else:
            constants[name] = told.number
    return constants


def _compressor() -> zstandard.ZstdCompressor:
    """Return this thread's: one is for one thread at a time, and takes longer to make than to use."""
    made: zstandard.ZstdCompressor | None = getattr(_OF_THREAD, "compressor", None)
    if made is None:
        made = _OF_THREAD.compressor = zstandard.ZstdCompressor(level=1)
    return made


@cache
def writer() -> Writer | None:
    """Return the compiled code, once a process; None, said in the log, where there is none."""
    try:
        return Writer()
    except OSError as error:
        get_logger(__name__).warning("writer_not_compiled", error=str(error), hint="script/build-native compiles it")
        return None
