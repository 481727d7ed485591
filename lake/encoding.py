"""Rows as they came, encoded as one Parquet file: texts stay the dictionaries that they were staged as.

Landing reads a segment's texts as dictionaries and writes them as such: nothing is spelt out and hashed row by row in
between. That, and differences where numbers run up, makes it cheaper than writing rows which are in memory already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from lake.schema import TABLES

_ROW_GROUP_ROWS: Final = 250_000
_COUNTING: Final = frozenset({"time", "monotonic_ns", "seq"})
"""Columns that run up: their differences are small, and a dictionary would be made in vain."""

_TEXT: Final = pa.dictionary(pa.int32(), pa.string())


def encode(parts: Iterable[pa.Table], table: str) -> bytes:
    """Return rows of one partition as a Parquet file, zstd 1; the file and one row group are held in memory.

    Args:
        parts: rows, part after part; texts plain or as dictionaries; columns that the table has not are left out.
        table: one of `lake.schema.TABLES`, kept by day.

    Raises:
        ValueError: a column of the table is missing, of another type, or null where it may not be.
    """
    schema = _file_schema(table)
    options: dict[str, Any] = {
        "compression": "zstd",
        "compression_level": 1,
        "use_dictionary": [name for name in schema.names if name not in _COUNTING],
        "column_encoding": {name: "DELTA_BINARY_PACKED" for name in schema.names if name in _COUNTING},
        "write_statistics": False,
        # Arrow's own copy of the schema would have every reader make dictionaries of the texts.
        "store_schema": False,
    }
    target = pa.BufferOutputStream()
    with pq.ParquetWriter(target, schema, **options) as writer:
        for group in _groups(_shaped(part, schema, table) for part in parts):
            writer.write_table(group, row_group_size=group.num_rows)
    data: bytes = target.getvalue().to_pybytes()
    return data


def _file_schema(table: str) -> pa.Schema:
    """Return the schema of a table's files, texts as dictionaries; the partition is in their folder's name."""
    fields = [field for field in TABLES[table].schema if field.name != TABLES[table].partition]
    return pa.schema([field.with_type(_TEXT) if field.type == pa.string() else field for field in fields])


def _groups(parts: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Put small parts together, so that a row group is worth its beginning."""
    together: list[pa.Table] = []
    rows = 0
    for part in parts:
        if not part.num_rows:
            continue
        if rows and rows + part.num_rows > _ROW_GROUP_ROWS:
            yield _joined(together)
            together, rows = [], 0
        together.append(part)
        rows += part.num_rows
    if together:
        yield _joined(together)


def _joined(parts: list[pa.Table]) -> pa.Table:
    return pa.concat_tables(parts).unify_dictionaries()


def _shaped(part: pa.Table, schema: pa.Schema, table: str) -> pa.Table:
    """Return a part as the file has it."""
    if missing := set(schema.names) - set(part.schema.names):
        raise ValueError(f"{table}: rows without {sorted(missing)}")
    columns: list[Any] = []
    for field in schema:
        column: Any = part.column(field.name)
        if field.type == _TEXT and not pa.types.is_dictionary(column.type):
            if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
                raise ValueError(f"{table}: {field.name} is {column.type}, not a text")
            column = column.cast(pa.string()).dictionary_encode()
        if column.type != field.type:
            raise ValueError(f"{table}: {field.name} is {column.type}, not {field.type}")
        if column.null_count and not field.nullable:
            raise ValueError(f"{table}: {field.name} is null where it may not be")
        columns.append(column)
    return pa.table(columns, schema=schema)
