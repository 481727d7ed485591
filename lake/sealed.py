"""Sealed files: a day's rows in order, in files of some 256 MiB from which a look-up reads only what can match."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import date, datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake.files import TIME, DataFile, StoredFile, put_file
from lake.ordering import ORDER
from lake.schema import TABLES
from lake.settings import LakeSettings

FILE_BYTES: Final = 256 << 20
"""A file is closed once it has so many bytes."""

GROUP_ROWS: Final = 100_000
PAGE_ROWS: Final = 5_000
"""Rows of a row group, which every reader can leave shut, and of a page, for those that know the page index."""

STATISTICS: Final = ("path", "target_path", "time", "agent_id")
"""Columns whose least and greatest values stand in the files, and go with them; Delta keeps those of `time` only."""

_PREFIX: Final = "sealed-"
_LEVEL: Final = 3
_Encodings = dict[str, str]


def seal_of(file: StoredFile) -> str | None:
    """Return the seal that a file belongs to, None if it was landed."""
    return file.name.removeprefix(_PREFIX).rpartition("-")[0] if file.name.startswith(_PREFIX) else None


class SealedFiles:
    """Writes a day's rows, given in `lake.ordering.ORDER`; at most one file is in memory.

    What is put is part of the table only once a commit names it.
    """

    def __init__(  # noqa: PLR0917 - what a seal is
        self, tenant: str, table: str, day: date, seal: str, settings: LakeSettings, file_bytes: int = FILE_BYTES
    ) -> None:
        """Begin.

        Args:
            tenant: whose table.
            table: one of `lake.schema.TABLES`, kept by day, that has the columns of `ORDER`.
            day: the partition.
            seal: a new name for what is written: letters and digits.
            settings: where the lake is.
            file_bytes: when a file is full.
        """
        self.files: list[DataFile] = []
        self._tenant, self._table, self._day, self._seal = tenant, table, day, seal
        self._settings, self._full = settings, file_bytes
        self._open: _OpenFile | None = None

    def add(self, rows: pa.Table) -> None:
        """Take in the next rows: every column of the table.

        Raises:
            lake.stores.StoreError: a file that became full may not be durable.
        """
        rows = rows.drop_columns([str(TABLES[self._table].partition)])
        for group in _groups(rows):
            if self._open is None:
                self._open = _OpenFile(group)
            self._open.write(group)
            if self._open.size >= self._full:
                self._put()

    def close(self) -> list[DataFile]:
        """Put the last file and return all.

        Raises:
            lake.stores.StoreError: it may not be durable.
        """
        self._put()
        return self.files

    def _put(self) -> None:
        if self._open is None:
            return
        name = f"{_PREFIX}{self._seal}-{len(self.files) + 1:05d}"
        data, told = self._open.close()
        self._open = None
        self.files.append(put_file(self._tenant, self._table, self._day, data, told, self._settings, name))


class _OpenFile:
    def __init__(self, first: pa.Table) -> None:
        """Begin a file; what its first rows take decides how each of its columns is encoded."""
        self._rows = 0
        self._first: datetime | None = None
        self._last: datetime | None = None
        self._target = io.BytesIO()
        encodings = choose_encodings(first)
        order: Any = [pq.SortingColumn(first.schema.get_field_index(name)) for name in ORDER]
        self._writer = pq.ParquetWriter(
            self._target,
            first.schema,
            write_statistics=list(STATISTICS),
            write_page_index=True,
            max_rows_per_page=PAGE_ROWS,
            sorting_columns=order,
            **_options(first.schema, encodings),
        )

    @property
    def size(self) -> int:
        return self._target.tell()

    def write(self, group: pa.Table) -> None:
        extent: Any = pc.min_max(group.column(TIME))
        first, last = extent["min"].as_py(), extent["max"].as_py()
        self._first = min(first, self._first or first)
        self._last = max(last, self._last or last)
        self._rows += group.num_rows
        self._writer.write_table(group, row_group_size=GROUP_ROWS)

    def close(self) -> tuple[bytes, tuple[int, datetime, datetime]]:
        self._writer.close()
        if self._first is None or self._last is None:
            raise ValueError("a file without rows")
        return self._target.getvalue(), (self._rows, self._first, self._last)


def choose_encodings(rows: pa.Table) -> _Encodings:
    """Return for each column the encoding in which these rows take the fewest bytes, by trying."""
    chosen = {}
    for field in rows.schema:
        column = rows.select([field.name])
        sizes = {encoding: _size(column, encoding) for encoding in _candidates(field.type)}
        chosen[field.name] = min(sizes, key=lambda encoding: sizes[encoding])
    return chosen


def _candidates(kind: pa.DataType) -> tuple[str, ...]:
    if pa.types.is_string(kind):
        return "DICTIONARY", "DELTA_BYTE_ARRAY"
    if pa.types.is_integer(kind) or pa.types.is_timestamp(kind):
        return "DICTIONARY", "DELTA_BINARY_PACKED"
    return ("PLAIN",)


def _size(column: pa.Table, encoding: str) -> int:
    target = io.BytesIO()
    pq.write_table(column, target, **_options(column.schema, {column.schema.names[0]: encoding}))
    return target.tell()


def _options(schema: pa.Schema, encodings: _Encodings) -> dict[str, Any]:
    return {
        "compression": "zstd",
        "compression_level": _LEVEL,
        "use_dictionary": [name for name in schema.names if encodings[name] == "DICTIONARY"],
        "column_encoding": {name: encodings[name] for name in schema.names if encodings[name] != "DICTIONARY"},
        "store_schema": False,
    }


def _groups(rows: pa.Table) -> Iterator[pa.Table]:
    for first in range(0, rows.num_rows, GROUP_ROWS):
        yield rows.slice(first, GROUP_ROWS)
