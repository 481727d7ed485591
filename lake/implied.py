"""Columns that a segment's file need not hold: what its batches' headers say, and what is the same in every row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Final

import polars as pl
import pyarrow as pa

from lake.columns import table_schema
from lake.schema import EVENTS

_TYPES: Final[dict[str, Any]] = {field.name: field.type for field in table_schema(EVENTS)}
OF_BATCH: Final = tuple(
    column.name for column in EVENTS if column.source in {"batch", "ingest"} and column.name != "event_day"
)
"""Columns whose values are fields of a batch's record."""
_OF_EVENT: Final = frozenset(column.name for column in EVENTS if column.source == "event")
_FILLED: Final = frozenset({*OF_BATCH, "event_day", "code", "detail", "raw"})
"""Columns that a file without refused lines never holds."""


def constants_of(rows: pa.Table) -> dict[str, int | str | None]:
    """Return the event columns that have one value, or none, in every row; times are microseconds since 1970 UTC.

    Of two pieces of a column the dictionaries, if that is what they are, must be one.
    """
    if not rows.num_rows:
        return {}
    found: dict[str, int | str | None] = {}
    for name in rows.schema.names:
        column: Any = rows[name]
        if name not in _OF_EVENT:
            continue
        if column.null_count:
            if column.null_count == len(column):
                found[name] = None
            continue
        if pa.types.is_dictionary(column.type):
            dictionary = column.chunk(0).dictionary
            column = pa.chunked_array([chunk.indices for chunk in column.chunks])
        else:
            dictionary = None
        first = column[0]
        # Most columns that vary end otherwise than they began, which costs less to see than the rest.
        # Each equals the one before it: told without an array of answers, and at the first that differs.
        if first == column[-1] and column.slice(1).equals(column.slice(0, len(column) - 1)):
            if dictionary is not None:
                first = dictionary[first.as_py()]
            found[name] = first.value if pa.types.is_timestamp(column.type) else first.as_py()
    return found


def absent(names: Sequence[str], order: Sequence[str], constants: Mapping[str, Any]) -> list[str]:
    """Return which of the columns `order` are not among a file's `names`.

    Raises:
        ValueError: there are others, or not in order; or one is missing that nothing implies; or a constant is none.
    """
    if list(names) != [name for name in order if name in set(names)]:
        raise ValueError("columns that no segment has")
    if not _OF_EVENT.issuperset(constants) or not constants.keys().isdisjoint(names):
        raise ValueError("constants of columns that are there, or of none")
    missing = [name for name in order if name not in set(names)]
    if unknown := [name for name in missing if name not in constants and name not in _FILLED]:
        raise ValueError(f"columns are missing: {', '.join(unknown)}")
    for name, value in constants.items():
        pa.scalar(value, _TYPES[name])
    return missing


def spread(values: pa.Array[Any], batch: pa.Array[Any]) -> pa.Array[Any]:
    """Return each row's value, given each batch's and each row's batch; texts are dictionaries."""
    if not pa.types.is_string(values.type):
        return values.take(batch)
    distinct = values.dictionary_encode()
    return pa.DictionaryArray.from_arrays(distinct.indices.take(batch), distinct.dictionary)


def column(name: str, records: Sequence[Any], constants: Mapping[str, Any], batch: pa.Array[Any]) -> pa.Array[Any]:
    """Return a column that is absent, texts as dictionaries, given each row's batch."""
    kind = _TYPES[name]
    if name in constants:
        value: Any = pa.scalar(constants[name], kind)
        if not pa.types.is_string(kind):
            repeated: pa.Array[Any] = pa.repeat(value, len(batch))
            return repeated
        indices: Any = pa.repeat(pa.scalar(None if constants[name] is None else 0, pa.int32()), len(batch))
        return pa.DictionaryArray.from_arrays(indices, pa.array([constants[name] or ""], kind))
    return spread(pa.array([getattr(record, name) for record in records], kind), batch)


def expressions(missing: Iterable[str], records: Sequence[Any], constants: Mapping[str, Any]) -> list[pl.Expr]:
    """Return the event's columns among those that are absent, in terms of `batch` and `time`."""
    made: list[pl.Expr] = []
    place = pl.col("batch")
    time = pl.lit(constants["time"]).cast(pl.Datetime("us", "UTC")) if "time" in constants else pl.col("time")
    for name in missing:
        if name == "event_day":
            made.append(time.dt.date().alias(name))
        elif name in constants:
            made.append(pl.lit(constants[name]).cast(_frame_type(name)).alias(name))
        elif name in OF_BATCH:
            values = [getattr(record, name) for record in records]
            said = pl.lit(values[0]) if len(set(values)) == 1 else place.replace_strict(range(len(values)), values)
            made.append(said.cast(_frame_type(name)).alias(name))
    return made


@cache
def _frame_type(name: str) -> pl.DataType:
    return pl.DataFrame(pa.schema([pa.field(name, _TYPES[name])]).empty_table()).schema[name]
