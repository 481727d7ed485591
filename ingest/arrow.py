"""A body of Arrow columns: the same header, the same events, held to the same rules as lines."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import pyarrow as pa

from ingest.body import malformed, too_large
from lake.schema import EVENT_LINE

HEADER_KEY: Final = b"kaimon.batch"
"""Key of the schema's metadata whose value is the batch header, as NDJSON has it in its first line."""

_MOST_PARTS: Final = 1_000
_END: Final = b"\xff\xff\xff\xff\0\0\0\0"
_KNOWN: Final = {field.name: field for field in EVENT_LINE}
_REQUIRED: Final = tuple(field.name for field in EVENT_LINE if not field.nullable)
_NULLABLE: Final = pa.schema([field.with_nullable(True) for field in EVENT_LINE])
_SLICE: Final = 100
# Places in the flatbuffers of an Arrow message: fields of `Message` and `RecordBatch` in Arrow's format.
_MESSAGE_HEADER, _BATCH_COMPRESSION = 2, 3


def read_stream(data: bytes, most_rows: int) -> tuple[bytes, list[pa.RecordBatch]]:
    """Return the batch header's JSON and the rows, as `lake.schema.EVENT_LINE` but with nulls wherever they are.

    A column that may be null may be left out; any other difference from the schema is an error.

    Raises:
        Problem: 400 malformed_body, not such a stream; 413 too_large, too many rows.
    """
    if not data.endswith(_END):
        raise malformed("the Arrow stream has no end")
    try:
        source = pa.BufferReader(data)
        messages = pa.ipc.MessageReader.open_stream(source)
        first = messages.read_next_message()
        if first.type != "schema":
            raise malformed("an Arrow stream begins with its schema")
        schema = pa.ipc.read_schema(first)
        header = _check_schema(schema)
        parts = [_part(message, schema) for message in _rest(messages)]
        if source.tell() != len(data):
            raise malformed("data after the Arrow stream")
    except (pa.ArrowException, EOFError, StopIteration, OSError, struct.error, IndexError, UnicodeError) as error:
        raise malformed(f"not an Arrow stream of events: {error}"[:300]) from error
    if (rows := sum(part.num_rows for part in parts)) > most_rows:
        raise too_large(f"{rows} rows, at most {most_rows}")
    return header, parts


def rows_as_lines(parts: Sequence[pa.RecordBatch], most_bytes: int) -> list[bytes]:
    """Return each row as the line that would say the same.

    Raises:
        Problem: 413 too_large, the lines are more than `most_bytes`.
    """
    lines: list[bytes] = []
    size = 0
    for part in parts:
        for start in range(0, part.num_rows, _SLICE):
            for row in part.slice(start, _SLICE).to_pylist():
                lines.append(msgspec.json.encode({name: value for name, value in row.items() if value is not None}))
                size += len(lines[-1])
            if size > most_bytes:
                raise too_large(f"more than {most_bytes} bytes as lines")
    return lines


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
        if field.type != _KNOWN[field.name].type:
            raise malformed(f"{field.name}: want {_KNOWN[field.name].type}")
    if missing := [name for name in _REQUIRED if name not in schema.names]:
        raise malformed(f"columns are missing: {', '.join(missing)}")
    return bytes(header)


def _rest(messages: Any) -> Any:
    for number, message in enumerate(messages):
        if number >= _MOST_PARTS:
            raise malformed(f"more than {_MOST_PARTS} record batches")
        yield message


def _part(message: Any, schema: pa.Schema) -> pa.RecordBatch:
    if message.type != "record batch":
        raise malformed(f"a message of type {message.type}")
    # Compressed buffers would grow past every limit behind our back.
    if _is_compressed(message.metadata.to_pybytes()):
        raise malformed("compressed buffers: the body is what is compressed")
    part = pa.ipc.read_record_batch(message, schema)
    part.validate(full=True)
    if schema.names == EVENT_LINE.names:
        return part
    columns = dict(zip(schema.names, part.columns, strict=True))
    return pa.RecordBatch.from_arrays(
        [columns[field.name] if field.name in columns else pa.nulls(part.num_rows, field.type) for field in EVENT_LINE],
        schema=_NULLABLE,
    )


def _is_compressed(metadata: bytes) -> bool:
    """Say whether a record batch's message, which Arrow has verified, names a compression."""
    (root,) = struct.unpack_from("<I", metadata, 0)
    place = _field(metadata, root, _MESSAGE_HEADER)
    if place is None:
        return False
    (offset,) = struct.unpack_from("<I", metadata, place)
    return _field(metadata, place + offset, _BATCH_COMPRESSION) is not None


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
