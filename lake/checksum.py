"""A checksum of rows in an order: the same rows in the same order give it, however they are cut into files."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from lake.schema import TABLES

METHOD: Final = "kaimon-rows-1"
"""Goes into every checksum: another way of computing it would be another name."""

_INTEGERS: Final = {pa.int32(): pa.int32(), pa.int64(): pa.int64(), pa.date32(): pa.int32(), pa.bool_(): pa.uint8()}


class RowsChecksum:
    """SHA-256 over a table's rows, column by column, so that no cut between two calls of `add` shows.

    Each column is a stream of its own. Numbers, dates (days since 1970) and times (µs since 1970) go in as
    little-endian integers, null as 0; where null is allowed, a stream of bytes says which they are (1: null). A
    text's stream is its UTF-8; another says each one's length in bytes, as 64 bits. The checksum is over the streams'
    digests with the columns' names, in the order of the schema.
    """

    def __init__(self, table: str) -> None:
        """Begin for one of `lake.schema.TABLES` that has numbers, texts, dates and times only."""
        self._schema = TABLES[table].schema
        self._streams = {name: [hashlib.sha256() for _ in range(3)] for name in self._schema.names}

    def add(self, rows: pa.Table) -> None:
        """Take in the next rows: every column of the table, of its type.

        Raises:
            TypeError: a column is of a type that has no stream.
        """
        for field in self._schema:
            values, lengths, nulls = self._streams[field.name]
            for chunk in rows.column(field.name).chunks:
                if field.nullable:
                    nulls.update(_bytes(chunk.is_null().cast(pa.uint8())))
                if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
                    texts: Any = chunk.fill_null("").cast(pa.large_string())
                    lengths.update(_bytes(pc.binary_length(texts)))
                    values.update(_text_bytes(texts))
                else:
                    values.update(_bytes(_integers(field, chunk)))

    def hexdigest(self) -> str:
        """Return the checksum of all rows so far, as hex."""
        digests = {name: [stream.hexdigest() for stream in streams] for name, streams in self._streams.items()}
        return hashlib.sha256(json.dumps([METHOD, list(digests.items())]).encode()).hexdigest()


def _integers(field: pa.Field[Any], chunk: Any) -> Any:
    target = pa.int64() if pa.types.is_timestamp(field.type) else _INTEGERS.get(field.type)
    if target is None:
        raise TypeError(f"{field.name}: {field.type} has no place in a checksum")
    return chunk.cast(target).fill_null(0)


def _bytes(numbers: Any) -> bytes | memoryview:
    return memoryview(numbers.to_numpy(zero_copy_only=False)).cast("B") if len(numbers) else b""


def _text_bytes(texts: Any) -> bytes | memoryview:
    """Return the bytes of all texts, one after the other; none is null."""
    if not len(texts):
        return b""
    _, offsets, data = texts.buffers()
    ends = memoryview(offsets).cast("q")
    first, last = ends[texts.offset], ends[texts.offset + len(texts)]
    return memoryview(data)[first:last] if data is not None else b""
