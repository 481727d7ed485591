"""A body of Arrow columns: the same header, the same events, held to the same rules as lines."""

from __future__ import annotations

import struct
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from ingest.body import malformed, too_large
from ingest.events import LINE_COLUMNS, RANGES, TEXTS
from ingest.text import ODD_PATTERN, is_canonical
from lake.schema import EVENT_LINE

HEADER_KEY: Final = b"kaimon.batch"
"""Key of the schema's metadata whose value is the batch header, as NDJSON has it in its first line."""

_MOST_PARTS: Final = 1_000
_END: Final = b"\xff\xff\xff\xff\0\0\0\0"
_KNOWN: Final = {field.name: field for field in EVENT_LINE}
_REQUIRED: Final = tuple(field.name for field in EVENT_LINE if not field.nullable)
_DOMAINS: Final = {
    column.name: pa.array([*column.domain, *([None] if column.nullable else [])], pa.string())
    for column in LINE_COLUMNS
    if column.domain
}
_NARROW: Final = {
    column.name: RANGES[column.name]
    for column in LINE_COLUMNS
    if column.name in {"count", "seq", "cpu"} or column.kind == "timestamp"
}
"""Numbers of which less is allowed than their type holds."""
_LINE_OVERHEAD: Final = 2_000
"""More than a line takes besides its free texts: keys, punctuation, numbers, words of a domain."""
_SLICE: Final = 100
# Places in the flatbuffers of an Arrow message: fields of `Message` and `RecordBatch` in Arrow's format.
_MESSAGE_HEADER, _BATCH_COMPRESSION = 2, 3


def read_stream(data: bytes, most_rows: int) -> tuple[bytes, pa.Table]:
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
    columns = {name: pa.chunked_array([part[name] for part in parts], _KNOWN[name].type) for name in schema.names}
    return header, pa.table(
        [columns[field.name] if field.name in columns else pa.nulls(rows, field.type) for field in EVENT_LINE],
        schema=pa.schema([field.with_nullable(True) for field in EVENT_LINE]),
    )


def vouched_for(rows: pa.Table, longest: int) -> bool:
    """Say whether all rows are good, each as a line of at most `longest` bytes; if not, look at them as lines."""
    if rows.num_rows == 0:
        return True
    if any(rows[name].null_count for name in _REQUIRED):
        return False
    for name, allowed in _DOMAINS.items():
        if not pc.all(pc.is_in(rows[name], value_set=allowed)).as_py():
            return False
    for name, (least, most) in _NARROW.items():
        smallest, largest = pc.min(rows[name]).as_py(), pc.max(rows[name]).as_py()
        if smallest is not None and largest is not None and (smallest < least or largest > most):
            return False
    # A line may have each byte of a text as two.
    if 2 * sum(pc.max(pc.binary_length(rows[name])).as_py() or 0 for name in TEXTS) + _LINE_OVERHEAD > longest:
        return False
    return all(_canonical(rows[name]) for name in TEXTS)


def rows_as_lines(rows: pa.Table, most_bytes: int) -> list[bytes]:
    """Return each row as the line that would say the same.

    Raises:
        Problem: 413 too_large, the lines are more than `most_bytes`.
    """
    lines: list[bytes] = []
    size = 0
    for start in range(0, rows.num_rows, _SLICE):
        for row in rows.slice(start, _SLICE).to_pylist():
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
    return part


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


def _canonical(column: pa.ChunkedArray[Any]) -> bool:
    for chunk in column.chunks:
        data = chunk.buffers()[2]
        if data is None or data.size == 0:
            continue
        text = data.to_pybytes()
        least = pc.min(pa.Array.from_buffers(pa.uint8(), data.size, [None, data])).as_py()
        if least >= 0x20 and b"\\" not in text and b"\x7f" not in text and b"\xc2" not in text:
            continue
        odd = chunk.filter(pc.match_substring_regex(chunk, ODD_PATTERN))
        if not all(is_canonical(str(value)) for value in odd.to_pylist()):
            return False
    return True
