"""Plain lines and plain columns, read by compiled code; whatever is not plainly good is left to the judge of lines.

Plain is a part of JSON in which nothing is left open: no space, no escape, no null, no fraction, no key twice, no text
that would have to be escaped. Whatever is read here, `ingest.events` reads as the same event; of all else it is not
said that it is wrong. The `plain_*.c` beside this are the code, `script/build-native` compiles them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, Structure, byref, c_char_p, c_int, c_int64
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from ingest.events import LINE_COLUMNS, RANGES
from kaimon.base.logs import get_logger
from lake.native import ArrowArray, load
from lake.segments import CODED_ROWS, ROWS

_LEAST_LINE: Final = sum(len(column.name) + 5 for column in LINE_COLUMNS if not column.nullable)
"""Bytes that a good line has at least: each key that must be there, its quotes and colon, a value and what follows."""
MOST_BYTES: Final = 2**31 - 1
"""What the texts of one reading may be at most, since Arrow's offsets have 32 bits."""
_KINDS: Final = {"string": 0, "int32": 1, "int64": 2, "timestamp": 2}
_NAMES: Final = [column.name for column in LINE_COLUMNS]


@dataclass(frozen=True)
class Lines:
    """So many lines of `data` from `start` on; it ends in a newline."""

    data: bytes
    start: int
    count: int


@dataclass(frozen=True)
class Sums:
    """What rows come to: how many, the times of the first and of the end of the last, their occurrences."""

    rows: int
    first: int | None
    last: int | None
    occurrences: int

    def __add__(self, more: Sums) -> Sums:
        """Return what both come to."""
        first = [time for time in (self.first, more.first) if time is not None]
        last = [time for time in (self.last, more.last) if time is not None]
        return Sums(
            self.rows + more.rows,
            min(first, default=None),
            max(last, default=None),
            self.occurrences + more.occurrences,
        )


class _Column(Structure):
    _fields_ = (
        ("key", c_char_p),
        ("key_size", c_int64),
        ("kind", c_int64),
        ("required", c_int64),
        ("least", c_int64),
        ("most", c_int64),
        ("words", c_char_p),
    )


class _Rules(Structure):
    _fields_ = (
        ("columns", POINTER(_Column)),
        ("count", c_int64),
        ("time", c_int64),
        ("last_time", c_int64),
        ("occurrences", c_int64),
        ("longest", c_int64),
    )


class _Told(Structure):
    _fields_ = (("rows", c_int64), ("first", c_int64), ("last", c_int64), ("occurrences", c_int64))

    def sums(self) -> Sums:
        if self.rows == 0:
            return Sums(0, None, None, 0)
        return Sums(self.rows, self.first, self.last, self.occurrences)


class _Part(Structure):
    _fields_ = (
        ("data", c_char_p),
        *((name, c_int64) for name in ("size", "start", "lines", "first_line")),
        ("told", _Told),
    )


class _Read(Structure):
    _fields_ = (("told", _Told), *((name, c_int64) for name in ("header", "header_size", "coded")))


class Reader:
    """The compiled code. Safe to share among threads, which it does not hold up."""

    def __init__(self, library: Path | None = None) -> None:
        """Load it, from `library` if it is not in its place.

        Raises:
            OSError: it is not there, or was not made of this source.
        """
        code = load("plain", Path(__file__).parent, library)
        self._read_lines, self._vouch, self._read_body = code.read_lines, code.vouch, code.read_body
        self._count_lines = code.count_lines
        self._count_lines.argtypes, self._count_lines.restype = (c_char_p, c_int64), c_int64
        self._look_through = code.look_through
        self._look_through.argtypes, self._look_through.restype = (c_char_p, c_int64, *[POINTER(c_int64)] * 2), c_int
        self._read_lines.argtypes = (
            POINTER(_Rules), POINTER(_Part), c_int64, c_int64, c_char_p, POINTER(ArrowArray),
        )  # fmt: skip
        self._vouch.argtypes = (
            POINTER(_Rules), POINTER(ArrowArray), POINTER(c_int64), POINTER(c_int64), c_int64, c_int64,
            POINTER(ArrowArray), POINTER(_Told),
        )  # fmt: skip
        self._read_body.argtypes = (
            POINTER(_Rules), c_char_p, c_int64, c_int64, c_int64, c_int64, POINTER(ArrowArray), POINTER(_Read),
        )  # fmt: skip
        self._read_lines.restype = self._vouch.restype = self._read_body.restype = c_int

    def count_lines(self, data: bytes) -> int:
        """Return how many newlines there are: Python takes ten times as long where many are near each other."""
        count: int = self._count_lines(data, len(data))
        return count

    def read_lines(
        self, parts: Sequence[Lines], longest: int, first_line: int = 0
    ) -> tuple[pa.RecordBatch, list[bytes], list[Sums]]:
        """Return the plain lines as `lake.segments.ROWS`, in order; for each part a byte a line, 1 if it is; and sums.

        Args:
            parts: together less than 2 GiB.
            longest: bytes that a line may have.
            first_line: the number of the first of each part.
        """
        size = sum(len(part.data) for part in parts)
        if size > MOST_BYTES or not all(
            part.data[-1:] == b"\n" and 0 <= part.start <= len(part.data) for part in parts
        ):
            raise ValueError("not lines that end, or too many bytes")
        told = (_Part * len(parts))(
            *(_Part(part.data, len(part.data), part.start, part.count, first_line) for part in parts)
        )
        count = sum(part.count for part in parts)
        most = min(count, size // _LEAST_LINE + len(parts))
        plain, rows = ctypes.create_string_buffer(count + 1), ArrowArray()
        if self._read_lines(byref(_rules(longest)), told, len(parts), most, plain, byref(rows)):
            raise MemoryError
        made = pa.RecordBatch._import_from_c(ctypes.addressof(rows), ROWS)  # noqa: SLF001
        ends = list(accumulate((part.count for part in parts), initial=0))
        raw = plain.raw
        good = [raw[start:end] for start, end in pairwise(ends)]
        return made, good, [part.told.sums() for part in told]

    def look_through(self, stream: bytes) -> tuple[int, int] | None:
        """Return how many dictionaries and record batches an Arrow stream has; None if it may not be plain.

        A plain one has its schema, dictionaries of their own ids that none adds to, and at most 1,000 record batches,
        in that order, nothing compressed, and nothing behind its end. What they hold is not looked at.
        """
        dictionaries, batches = c_int64(), c_int64()
        plain = self._look_through(stream, len(stream), byref(dictionaries), byref(batches))
        return (dictionaries.value, batches.value) if plain else None

    def vouch(
        self, rows: pa.RecordBatch, longest: int, first_line: int = 0, most_bytes: int = MOST_BYTES
    ) -> tuple[pa.RecordBatch, Sums] | None:
        """Return the same rows as `lake.segments.ROWS`, and sums; None if one of them may not be good, or sound.

        Rows whose texts are dictionaries come as `lake.segments.CODED_ROWS`.

        Args:
            rows: columns of `lake.schema.EVENT_LINE` in any order, with nulls wherever they are; validated, but not
                fully. Either all texts are dictionaries with indices of 8, 16 or 32 bits, or none is.
            longest: bytes that each may have as a line.
            first_line: the number of the first of them.
            most_bytes: that texts from dictionaries may have in all rows together.
        """
        shape = _shape_of(rows.schema)
        given, whole, told = ArrowArray(), ArrowArray(), _Told()
        rows._export_to_c(ctypes.addressof(given))  # noqa: SLF001
        good = self._vouch(
            byref(_rules(longest)), byref(given), shape.places, shape.widths, first_line, most_bytes, byref(whole),
            byref(told),
        )  # fmt: skip
        if good < 0:
            raise MemoryError
        if good == 0:
            return None
        # Integers become times; nothing is copied.
        return pa.RecordBatch._import_from_c(ctypes.addressof(whole), shape.becomes), told.sums()  # noqa: SLF001

    def read_body(
        self, data: bytes, most_rows: int, longest: int, first_line: int = 0, most_bytes: int = MOST_BYTES
    ) -> tuple[bytes, pa.RecordBatch, Sums] | None:
        """Return the batch header and the rows of an Arrow stream as `vouch` does, or None: it may not be plain.

        What is plain here, `ingest.arrow.read_stream` and `vouch` read as the same rows. One that is has one batch of
        rows, all of its texts as dictionaries or none, and nothing in its messages that no event needs.

        Args:
            data: the whole stream.
            most_rows: that there may be.
            longest: bytes that a row's line would have at most.
            first_line: the number of the first of them.
            most_bytes: that texts from dictionaries may have in all rows together.
        """
        whole, read = ArrowArray(), _Read()
        good = self._read_body(
            byref(_rules(longest)), data, len(data), most_rows, first_line, most_bytes, byref(whole), byref(read)
        )
        if good < 0:
            raise MemoryError
        if good == 0:
            return None
        rows = pa.RecordBatch._import_from_c(ctypes.addressof(whole), CODED_ROWS if read.coded else ROWS)  # noqa: SLF001
        return data[read.header : read.header + read.header_size], rows, read.told.sums()


@dataclass(frozen=True)
class _Shape:
    """Which columns rows have, and what they become: of each column its place among them, and bytes of an index."""

    schema: pa.Schema
    places: Any
    widths: Any
    becomes: pa.Schema


_shapes: list[_Shape] = []
"""Those of late, the last one first: senders have few, and finding out takes as long as looking through the rows."""
_MOST_SHAPES: Final = 8


def _shape_of(schema: pa.Schema) -> _Shape:
    global _shapes  # noqa: PLW0603 - replaced as a whole, so that threads need not wait for each other
    for known in _shapes:
        if known.schema.equals(schema):
            return known
    bare = schema.remove_metadata()
    types: dict[str, Any] = {field.name: field.type for field in bare}
    widths = [
        types[name].index_type.bit_width // 8 if name in types and pa.types.is_dictionary(types[name]) else 0
        for name in _NAMES
    ]
    numbers = c_int64 * len(_NAMES)
    places = numbers(*(bare.get_field_index(name) for name in _NAMES))
    made = _Shape(bare, places, numbers(*widths), CODED_ROWS if any(widths) else ROWS)
    _shapes = [made, *_shapes[: _MOST_SHAPES - 1]]
    return made


@cache
def reader() -> Reader | None:
    """Return the compiled code, once a process; None, said in the log, where there is none: then all is judged."""
    try:
        return Reader()
    except OSError as error:
        get_logger(__name__).warning("reader_not_compiled", error=str(error), hint="script/build-native compiles it")
        return None


@cache
def _rules(longest: int) -> _Rules:
    columns = (_Column * len(LINE_COLUMNS))()
    for made, column in zip(columns, LINE_COLUMNS, strict=True):
        made.key = f'"{column.name}":'.encode()
        made.key_size = len(column.name) + 3
        made.kind = _KINDS[column.kind]
        made.required = not column.nullable
        made.least, made.most = RANGES.get(column.name, (0, 0))
        if column.domain:
            made.words = b"".join(bytes([len(word)]) + word.encode() for word in column.domain)
    places: Any = [_NAMES.index(name) for name in ("time", "last_time", "count")]
    return _Rules(columns, len(columns), *places, longest)
