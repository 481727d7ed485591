"""A body of Arrow columns: the same header, the same events, held to the same rules as lines."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from ingest.body import malformed, too_large
from ingest.plain import reader
from kaimon.base.problems import Problem
from lake.schema import EVENT_LINE

HEADER_KEY: Final = b"kaimon.batch"
"""Key of the schema's metadata whose value is the batch header, as NDJSON has it in its first line."""

_MOST_PARTS: Final = 1_000
_END: Final = b"\xff\xff\xff\xff\0\0\0\0"
_KNOWN: Final = {field.name: field for field in EVENT_LINE}
_REQUIRED: Final = tuple(field.name for field in EVENT_LINE if not field.nullable)
_CODED: Final = [pa.dictionary(index, pa.string()) for index in (pa.int32(), pa.int16(), pa.int8())]
_SLICE: Final = 100
# Places in the flatbuffers of an Arrow message: fields of `Message`, `DictionaryBatch` and `RecordBatch`.
_MESSAGE_HEADER, _DICTIONARY_ID, _DICTIONARY_BATCH, _BATCH_COMPRESSION = 2, 0, 1, 3


def read_stream(data: bytes, most_rows: int) -> tuple[bytes, list[pa.RecordBatch]]:
    """Return the batch header's JSON and the rows: columns of `lake.schema.EVENT_LINE`, with nulls wherever they are.

    Rows are validated, but not fully. Where a text came as a dictionary all of them are, and the rows one part. A
    column that may be null may be missing, and they may be in any order; any other difference is an error.

    Raises:
        Problem: 400 malformed_body, not such a stream; 413 too_large, too many rows.
    """
    if not data.endswith(_END):
        raise malformed("the Arrow stream has no end")
    try:
        source = pa.py_buffer(data)
        compiled = reader()
        dictionaries, batches = (compiled and compiled.look_through(data)) or look_through(source)
        stream: Any = pa.ipc.open_stream(source)
        header = _header(stream.schema)
        coded, texts = _check_schema(stream.schema)
        if batches and dictionaries != coded:
            raise malformed(f"{dictionaries} dictionaries for {coded} columns: want one of its own for each")
        parts = list(stream)
        if (rows := sum(part.num_rows for part in parts)) > most_rows:
            raise too_large(f"{rows} rows, at most {most_rows}")
        for part in parts:
            part.validate()
        if coded and parts and (len(parts) > 1 or coded < texts):
            parts = [_one(parts)]
    except (pa.ArrowException, EOFError, StopIteration, OSError, struct.error, IndexError, UnicodeError) as error:
        raise _no_stream(error) from error
    return header, parts


def rows_as_lines(parts: Sequence[pa.RecordBatch], most_bytes: int) -> list[bytes]:
    """Return each row as the line that would say the same.

    Raises:
        Problem: 400 malformed_body, the rows are not sound; 413 too_large, the lines are more than `most_bytes`.
    """
    try:
        for part in parts:
            part.validate(full=True)
            for name, column in zip(part.schema.names, part.columns, strict=True):
                if isinstance(column, pa.DictionaryArray) and column.dictionary.null_count:
                    raise malformed(f"{name}: a null in its dictionary; rows are null themselves")
    except (pa.ArrowException, UnicodeError) as error:
        raise _no_stream(error) from error
    if sum(map(_spelt_out, parts)) > most_bytes:
        raise too_large(f"more than {most_bytes} bytes of texts")
    lines: list[bytes] = []
    size = 0
    for part in parts:
        schema = pa.schema([field.with_nullable(True) for field in EVENT_LINE if field.name in part.schema.names])
        ordered = part.select(schema.names)
        for start in range(0, part.num_rows, _SLICE):
            for row in ordered.slice(start, _SLICE).cast(schema).to_pylist():
                lines.append(msgspec.json.encode({name: value for name, value in row.items() if value is not None}))
                size += len(lines[-1])
            if size > most_bytes:
                raise too_large(f"more than {most_bytes} bytes as lines")
    return lines


def _no_stream(error: Exception) -> Problem:
    return malformed(f"not an Arrow stream of events: {error}"[:300])


def _spelt_out(part: pa.RecordBatch) -> int:
    """Return how many bytes the texts that come from dictionaries take as texts of rows."""
    coded: list[Any] = [column for column in part.columns if pa.types.is_dictionary(column.type)]
    sizes = [pc.sum(pc.binary_length(column.dictionary).take(column.indices).cast(pa.int64())) for column in coded]
    return sum(size.as_py() or 0 for size in sizes)


def _header(schema: pa.Schema) -> bytes:
    header = (schema.metadata or {}).get(HEADER_KEY)
    if header is None:
        raise malformed(f"no {HEADER_KEY.decode()} in the schema's metadata")
    return bytes(header)


_good: list[tuple[pa.Schema, int, int]] = []
"""Schemas of late that were good, the last one first: senders have few, and looking at types takes its time."""
_MOST_GOOD: Final = 8


def _check_schema(schema: pa.Schema) -> tuple[int, int]:
    """Return how many columns are dictionaries, and how many are texts."""
    global _good  # noqa: PLW0603 - replaced as a whole, so that threads need not wait for each other
    for known, coded, texts in _good:
        if known.equals(schema):
            return coded, texts
    if len(set(schema.names)) != len(schema.names):
        raise malformed("a column is there twice")
    coded = texts = 0
    for field in schema:
        if field.name not in _KNOWN:
            raise malformed("a column that no event has")
        wanted = _KNOWN[field.name].type
        is_text = pa.types.is_string(wanted)
        is_coded = is_text and field.type in _CODED
        if field.type != wanted and not is_coded:
            raise malformed(f"{field.name}: want {wanted}{f' or {_CODED[0]}' if is_text else ''}")
        coded += is_coded
        texts += is_text
    if missing := [name for name in _REQUIRED if name not in schema.names]:
        raise malformed(f"columns are missing: {', '.join(missing)}")
    _good = [(schema.remove_metadata(), coded, texts), *_good[: _MOST_GOOD - 1]]
    return coded, texts


def look_through(source: Any) -> tuple[int, int]:
    """Look through a stream's messages without their contents; return how many dictionaries and batches there are.

    Raises:
        Problem: 400 malformed_body.
        pa.ArrowException, OSError, StopIteration, struct.error, IndexError: as much.
    """
    given = pa.BufferReader(source)
    messages = pa.ipc.MessageReader.open_stream(given)
    if messages.read_next_message().type != "schema":
        raise malformed("an Arrow stream begins with its schema")
    known: set[int] = set()
    batches = 0
    for message in messages:
        metadata = message.metadata.to_pybytes()
        place = _header_of(metadata)
        if message.type == "dictionary":
            if batches or _dictionary_id(metadata, place) in known:
                raise malformed("a dictionary that adds to another, or comes in its place")
            known.add(_dictionary_id(metadata, place))
            place = _table(metadata, place, _DICTIONARY_BATCH)
        elif message.type == "record batch":
            batches += 1
            if batches > _MOST_PARTS:
                raise malformed(f"more than {_MOST_PARTS} record batches")
        else:
            raise malformed(f"a message of type {message.type}")
        # Compressed buffers would grow past every limit behind our back.
        if _field(metadata, place, _BATCH_COMPRESSION) is not None:
            raise malformed("compressed buffers: the body is what is compressed")
    if given.tell() != source.size:
        raise malformed("data after the Arrow stream")
    return len(known), batches


def _one(parts: list[pa.RecordBatch]) -> pa.RecordBatch:
    """Return parts as one, all texts as dictionaries.

    One, so that nobody has to look at a dictionary as many times as there are parts.
    """
    made: list[Any] = []
    for columns in zip(*(part.columns for part in parts), strict=True):
        first: Any = columns[0]
        if isinstance(first, pa.DictionaryArray):
            # Arrow's own way would compare the dictionaries, which are one.
            indices = pa.concat_arrays([column.indices for column in columns])
            made.append(pa.DictionaryArray.from_arrays(indices, first.dictionary, safe=False))
            continue
        column: Any = pa.concat_arrays(columns)
        if pa.types.is_string(column.type):
            column.validate(full=True)
            column = column.dictionary_encode()
        made.append(column)
    return pa.RecordBatch.from_arrays(made, parts[0].schema.names)


def _header_of(metadata: bytes) -> int:
    """Return where a message that Arrow has verified has its header, which says what it holds."""
    (root,) = struct.unpack_from("<I", metadata, 0)
    return _table(metadata, root, _MESSAGE_HEADER)


def _table(metadata: bytes, table: int, number: int) -> int:
    """Return where the table is that is a table's field."""
    place = _field(metadata, table, number)
    if place is None:
        raise malformed("a message without what it says that it holds")
    (offset,) = struct.unpack_from("<I", metadata, place)
    return place + int(offset)


def _dictionary_id(metadata: bytes, table: int) -> int:
    place = _field(metadata, table, _DICTIONARY_ID)
    return 0 if place is None else int(struct.unpack_from("<q", metadata, place)[0])


def _field(metadata: bytes, table: int, number: int) -> int | None:
    """Return where a flatbuffers table has its field `number`, or None if it has none."""
    (back,) = struct.unpack_from("<i", metadata, table)
    names = table - back
    (size,) = struct.unpack_from("<H", metadata, names)
    at = 4 + 2 * number
    if at + 2 > size:
        return None
    (offset,) = struct.unpack_from("<H", metadata, names + at)
    return table + offset if offset else None
