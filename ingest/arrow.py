"""A body of Arrow columns: the same header, the same events, held to the same rules as lines."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from ingest.body import malformed, too_large
from kaimon.base.problems import Problem
from lake.schema import EVENT_LINE

HEADER_KEY: Final = b"kaimon.batch"
"""Key of the schema's metadata whose value is the batch header, as NDJSON has it in its first line."""

_MOST_PARTS: Final = 1_000
_END: Final = b"\xff\xff\xff\xff\0\0\0\0"
_KNOWN: Final = {field.name: field for field in EVENT_LINE}
_REQUIRED: Final = tuple(field.name for field in EVENT_LINE if not field.nullable)
_NULLABLE: Final = pa.schema([field.with_nullable(True) for field in EVENT_LINE])
_TEXT: Final = pa.dictionary(pa.int32(), pa.string())
_CODED: Final = pa.schema([field.with_type(_TEXT) if pa.types.is_string(field.type) else field for field in _NULLABLE])
_CODED_TYPES: Final = [(field.name, _TEXT if field.type == _TEXT else field.type) for field in _CODED]
_SLICE: Final = 100
# Places in the flatbuffers of an Arrow message: fields of `Message`, `DictionaryBatch` and `RecordBatch`.
_MESSAGE_HEADER, _DICTIONARY_ID, _DICTIONARY_BATCH, _BATCH_COMPRESSION = 2, 0, 1, 3


def read_stream(data: bytes, most_rows: int) -> tuple[bytes, list[pa.RecordBatch]]:
    """Return the batch header's JSON and the rows, as `lake.schema.EVENT_LINE` but with nulls wherever they are.

    Rows are validated, but not fully. Where a text came as a dictionary all of them are, and the rows one part. A
    column that may be null may be left out; any other difference from the schema is an error.

    Raises:
        Problem: 400 malformed_body, not such a stream; 413 too_large, too many rows.
    """
    if not data.endswith(_END):
        raise malformed("the Arrow stream has no end")
    try:
        source = pa.py_buffer(data)
        dictionaries, batches = _messages(source)
        stream: Any = pa.ipc.open_stream(source)
        header = _check_schema(stream.schema)
        coded = sum(map(pa.types.is_dictionary, stream.schema.types))
        if batches and dictionaries != coded:
            raise malformed(f"{dictionaries} dictionaries for {coded} columns: want one of its own for each")
        given = list(stream)
        if (rows := sum(part.num_rows for part in given)) > most_rows:
            raise too_large(f"{rows} rows, at most {most_rows}")
        for part in given:
            part.validate()
        parts = [_coded(given, rows)] if coded and given else [_plain(part) for part in given]
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
    except (pa.ArrowException, UnicodeError) as error:
        raise _no_stream(error) from error
    if sum(map(_spelt_out, parts)) > most_bytes:
        raise too_large(f"more than {most_bytes} bytes of texts")
    lines: list[bytes] = []
    size = 0
    for part in parts:
        for start in range(0, part.num_rows, _SLICE):
            for row in part.slice(start, _SLICE).cast(_NULLABLE).to_pylist():
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


def _check_schema(schema: pa.Schema) -> bytes:
    """Return the batch header."""
    header = (schema.metadata or {}).get(HEADER_KEY)
    if header is None:
        raise malformed(f"no {HEADER_KEY.decode()} in the schema's metadata")
    if len(set(schema.names)) != len(schema.names):
        raise malformed("a column is there twice")
    for field in schema:
        if field.name not in _KNOWN:
            raise malformed("a column that no event has")
        wanted = _KNOWN[field.name].type
        if field.type != wanted and not (pa.types.is_string(wanted) and field.type == _TEXT):
            raise malformed(f"{field.name}: want {wanted}{f' or {_TEXT}' if pa.types.is_string(wanted) else ''}")
    if missing := [name for name in _REQUIRED if name not in schema.names]:
        raise malformed(f"columns are missing: {', '.join(missing)}")
    return bytes(header)


def _messages(source: Any) -> tuple[int, int]:
    """Look through a stream's messages without their contents; return how many dictionaries and batches there are."""
    reader = pa.BufferReader(source)
    messages = pa.ipc.MessageReader.open_stream(reader)
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
    if reader.tell() != source.size:
        raise malformed("data after the Arrow stream")
    return len(known), batches


def _plain(part: pa.RecordBatch) -> pa.RecordBatch:
    """Return a part with every column."""
    if part.schema.names == EVENT_LINE.names:
        return part
    columns = dict(zip(part.schema.names, part.columns, strict=True))
    return pa.RecordBatch.from_arrays(
        [columns[field.name] if field.name in columns else pa.nulls(part.num_rows, field.type) for field in EVENT_LINE],
        schema=_NULLABLE,
    )


def _coded(parts: list[pa.RecordBatch], rows: int) -> pa.RecordBatch:
    """Return parts as one, with every column, all texts as dictionaries.

    One, so that nobody has to look at a dictionary as many times as there are parts.
    """
    given: dict[str, Any] = dict(
        zip(parts[0].schema.names, zip(*(part.columns for part in parts), strict=True), strict=True)
    )
    made: list[Any] = []
    for name, kind in _CODED_TYPES:
        columns = given.get(name)
        if columns is None or (kind is _TEXT and sum(column.null_count for column in columns) == rows):
            made.append(_nothing(rows, kind))
        elif pa.types.is_dictionary(columns[0].type):
            made.append(_one_dictionary(name, columns))
        else:
            column = columns[0] if len(columns) == 1 else pa.concat_arrays(columns)
            if kind is _TEXT:
                column.validate(full=True)
                column = column.dictionary_encode()
            made.append(column)
    return pa.RecordBatch.from_arrays(made, schema=_CODED)


def _one_dictionary(name: str, columns: Sequence[Any]) -> Any:
    """Return the pieces of a column as one; Arrow's own way would compare their dictionaries."""
    dictionary = columns[0].dictionary
    if dictionary.null_count:
        raise malformed(f"{name}: a null in its dictionary; rows are null themselves")
    if len(columns) == 1:
        return columns[0]
    indices = pa.concat_arrays([column.indices for column in columns])
    return pa.DictionaryArray.from_arrays(indices, dictionary, safe=False)


@lru_cache(maxsize=8)
def _nothing(rows: int, kind: Any) -> Any:
    """Return a column of nulls; below those of texts is an index that there is."""
    if kind is not _TEXT:
        return pa.nulls(rows, kind)
    return pa.DictionaryArray.from_arrays(pa.nulls(rows, pa.int32()), pa.array([""]))


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
