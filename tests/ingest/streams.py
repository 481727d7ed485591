"""Arrow streams as senders make them, and as none should: what the tests of both ways to read them share."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import zstandard

from ingest.batch import ARROW, Arrived, Batch, Unread, read_batch
from ingest.settings import IngestSettings
from lake.schema import EVENT_LINE
from tenancy.credentials import HostIdentity

AGENT = "agt_0123456789abcdef"
LOOSE = pa.schema([field.with_nullable(True) for field in EVENT_LINE])


def stream(header: Any, table: pa.Table, **options: Any) -> bytes:
    """Return an Arrow stream with the header in its schema's metadata."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    marked = table.replace_schema_metadata({b"kaimon.batch": text})
    target = io.BytesIO()
    with pa.ipc.new_stream(target, marked.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(marked)
    return target.getvalue()


def table_of(*events: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(events), schema=LOOSE)


def read(data: bytes, kind: str = ARROW) -> Batch:
    sender = HostIdentity("acme", AGENT, "host-1", "active")
    return read_batch(Unread(Arrived(zstandard.compress(data), "0" * 64, 1, sender, kind), IngestSettings()))


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "a null where there must be a value": ({"process": None}, "bad_value"),
    "no occurrence": ({"count": 0}, "bad_value"),
    "a negative row number": ({"seq": -1}, "bad_value"),
    "a time after the year 9999": ({"last_time": 253_402_300_800_000_000}, "bad_value"),
    "an access that is none": ({"access": "append"}, "bad_value"),
    "a newline in a path": ({"path": "/a\nb"}, "bad_text"),
    "a zero byte": ({"exe": "a\0"}, "bad_text"),
    "a delete character": ({"user": "a\x7f"}, "bad_text"),
    "a C1 control character": ({"path": "/\u009b"}, "bad_text"),
    "an escape that need not be": ({"target_path": "/\\x41"}, "bad_text"),
    "a long text": ({"path": "/" + "x" * 70_000}, "line_too_long"),
}


def retyped(rows: pa.Table, name: str, kind: pa.DataType) -> pa.Table:
    return rows.set_column(rows.schema.get_field_index(name), pa.field(name, kind), rows[name].cast(kind))


INT32 = pa.int32()
TEXTS = [field.name for field in EVENT_LINE if field.type == pa.string()]
LONG, WIDE = pa.dictionary(pa.int32(), pa.large_string()), pa.dictionary(pa.int64(), pa.string())
ORDERED = pa.dictionary(pa.int32(), pa.string(), ordered=True)


def coded(rows: pa.Table, *but: str, index: pa.DataType = INT32) -> pa.Table:
    """Return rows whose texts are dictionaries."""
    kind = pa.dictionary(index, pa.string())
    columns = [
        rows[name].cast(kind) if rows[name].type == pa.string() and name not in but else rows[name]
        for name in rows.column_names
    ]
    return pa.table(columns, rows.column_names)


def renumbered(rows: pa.Table, name: str) -> pa.Table:
    """Return rows of which a column of numbers is a dictionary."""
    return rows.set_column(rows.schema.get_field_index(name), name, rows[name].dictionary_encode())


def pointed(rows: pa.Table, indices: list[int | None], values: list[str | None], name: str = "path") -> pa.Table:
    """Return rows of which a column has this dictionary, and these indices, whether it has them or not."""
    column = pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), pa.array(values, pa.string()), safe=False)
    given = coded(rows)
    return given.set_column(given.schema.get_field_index(name), name, column)


def in_pieces(header: Any, *tables: pa.Table, **options: Any) -> bytes:
    """Return a stream of tables each of which brings its own dictionaries, where they differ from those before."""
    target = io.BytesIO()
    schema = tables[0].replace_schema_metadata({b"kaimon.batch": json.dumps(header).encode()}).schema
    with pa.ipc.new_stream(target, schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        for table in tables:
            writer.write_table(table)
    return target.getvalue()


def spliced(data: bytes, change: Callable[[list[Any]], list[Any]]) -> bytes:
    """Return a stream with its messages behind the schema changed."""
    first, *rest = pa.ipc.MessageReader.open_stream(data)
    return (
        b"".join(message.serialize().to_pybytes() for message in (first, *change(rest))) + b"\xff\xff\xff\xff\0\0\0\0"
    )


BAD: dict[str, Callable[[Any, pa.Table], bytes]] = {
    "nothing": lambda _header, _rows: b"",
    "garbage": lambda _header, _rows: b"x" * 100,
    "lines": lambda header, _rows: json.dumps(header).encode() + b"\n",
    "another type": lambda header, rows: stream(header, retyped(rows, "pid", pa.int32())),
    "times as timestamps": lambda header, rows: stream(header, retyped(rows, "time", pa.timestamp("us"))),
    "a dictionary of long offsets": lambda header, rows: stream(header, retyped(rows, "path", LONG)),
    "a dictionary with indices that have no sign": lambda header, rows: stream(header, coded(rows, index=pa.uint8())),
    "a dictionary with an order": lambda header, rows: stream(header, retyped(rows, "path", ORDERED)),
    "a dictionary of numbers": lambda header, rows: stream(header, renumbered(rows, "pid")),
    "a dictionary with other indices": lambda header, rows: stream(header, retyped(rows, "path", WIDE)),
    "an index beyond its dictionary": lambda header, rows: stream(header, pointed(rows, [1], ["/a"])),
    "an index before its dictionary": lambda header, rows: stream(header, pointed(rows, [-1], ["/a"])),
    "a null in a dictionary": lambda header, rows: stream(header, pointed(rows, [0], ["/a", None])),
    "compressed dictionaries": lambda header, rows: stream(header, coded(rows), compression="zstd"),
    "a dictionary in another's place": lambda header, rows: in_pieces(header, coded(rows), pointed(rows, [0], ["/b"])),
    "a dictionary that adds to one": lambda header, rows: in_pieces(
        header, pointed(rows, [0], ["/a"]), pointed(rows, [1], ["/a", "/b"]), emit_dictionary_deltas=True
    ),
    "a dictionary twice": lambda header, rows: spliced(stream(header, coded(rows)), lambda all_: [all_[1], *all_[1:]]),
    "a dictionary too few": lambda header, rows: spliced(stream(header, coded(rows)), lambda all_: all_[2:]),
    "a dictionary behind the rows": lambda header, rows: spliced(stream(header, coded(rows)), lambda all_: all_[::-1]),
    "an unknown column": lambda header, rows: stream(header, rows.append_column("surprise", rows["pid"])),
    "a column twice": lambda header, rows: stream(header, rows.append_column("pid", rows["pid"])),
    "compressed buffers": lambda header, rows: stream(header, rows, compression="zstd"),
    "no end": lambda header, rows: stream(header, rows)[:-8],
    "something behind it": lambda header, rows: stream(header, rows) * 2,
    "cut short": lambda header, rows: stream(header, rows)[:-200] + b"\xff\xff\xff\xff\0\0\0\0",
}
