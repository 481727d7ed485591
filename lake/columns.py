"""A column: its name, wire type, table type, meaning, unit and OCSF path, said once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import pyarrow as pa

Kind = Literal["string", "int32", "int64", "float64", "bool", "timestamp", "date", "strings", "counters"]
Source = Literal["event", "batch", "ingest", "lake"]

CAUSES: Final = ("ring", "scratch", "shed", "refused", "evicted")
"""Why a row or an event was lost (DESIGN §3); every counter map has exactly these keys."""

_LOST: Final = pa.struct([pa.field(cause, pa.int64(), nullable=False) for cause in CAUSES])
_COUNTERS: Final = pa.list_(
    pa.field(
        "element",
        pa.struct(
            [
                pa.field("cpu", pa.int32(), nullable=False),
                pa.field("seen", pa.int64(), nullable=False),
                pa.field("filtered", pa.int64(), nullable=False),
                pa.field("next_seq", pa.int64(), nullable=False),
                pa.field("pending", pa.int64(), nullable=False),
                pa.field("lost_rows", _LOST, nullable=False),
                pa.field("lost_events", _LOST, nullable=False),
            ]
        ),
        nullable=False,
    )
)
_TABLE: Final[dict[Kind, pa.DataType]] = {
    "string": pa.string(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "timestamp": pa.timestamp("us", "UTC"),
    "date": pa.date32(),
    "strings": pa.list_(pa.field("element", pa.string(), nullable=False)),
    "counters": _COUNTERS,
}


@dataclass(frozen=True)
class Column:
    """One column of one table.

    `source` says who gives the value: the event's line, the batch's header, ingest, or the lake itself. On the
    wire a timestamp is an integer of microseconds since 1970 UTC; everything else is what it is in the table.
    """

    name: str
    kind: Kind
    nullable: bool
    meaning: str
    unit: str = ""
    ocsf: str = ""
    source: Source = "lake"
    domain: tuple[str, ...] = field(default=())

    def table_type(self) -> pa.DataType:
        """Return the type in the Delta table."""
        return _TABLE[self.kind]

    def wire_type(self) -> pa.DataType:
        """Return the type on the wire: microseconds as int64 for a timestamp."""
        return pa.int64() if self.kind == "timestamp" else _TABLE[self.kind]


def table_schema(columns: Sequence[Column]) -> pa.Schema:
    """Return the Arrow schema of a table with these columns."""
    return pa.schema([pa.field(column.name, column.table_type(), nullable=column.nullable) for column in columns])


def wire_schema(columns: Sequence[Column]) -> pa.Schema:
    """Return the Arrow schema of an event's line: only columns whose source is the event itself."""
    return pa.schema(
        [
            pa.field(column.name, column.wire_type(), nullable=column.nullable)
            for column in columns
            if column.source == "event"
        ]
    )
