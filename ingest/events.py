"""The lines of a batch as typed columns: each line is checked for itself, and none can null, coerce or drop a value."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Literal

import msgspec
import pyarrow as pa
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import astuple

from ingest.header import EARLIEST_US, LATEST_US, refuse_twice
from ingest.text import is_canonical
from kaimon.base.escape import escape
from lake.columns import Column
from lake.schema import EVENT_LINE, EVENTS

LARGEST_COUNT: Final = 2**40
"""Occurrences that one row may stand for; far beyond what a window can hold, and sums of it stay in 64 bits."""

LINE_COLUMNS: Final = tuple(column for column in EVENTS if column.source == "event")
_BITS: Final = {"int32": 31, "int64": 63, "timestamp": 63}
RANGES: Final[dict[str, tuple[int, int]]] = {
    **{
        column.name: (-(2 ** _BITS[column.kind]), 2 ** _BITS[column.kind] - 1)
        for column in LINE_COLUMNS
        if column.kind in _BITS
    },
    "count": (1, LARGEST_COUNT),
    "seq": (0, 2**63 - 1),
    "cpu": (0, 2**31 - 1),
    **{column.name: (EARLIEST_US, LATEST_US) for column in LINE_COLUMNS if column.kind == "timestamp"},
}
"""What each number may be, both ends included. Times: what a calendar can say."""
TEXTS: Final = tuple(column.name for column in LINE_COLUMNS if column.kind == "string" and not column.domain)

_CHUNK: Final = 1_000
"""Lines that are objects of Python at one time: they take ten times the room of their columns."""
_LONGEST_DETAIL: Final = 300


@dataclass(frozen=True)
class Fault:
    """What is wrong with a line: its place among those given, a code, and words; and the line itself."""

    index: int
    code: str
    detail: str
    raw: bytes


def _type_of(column: Column) -> Any:
    """Return what msgspec checks: type, range and domain. A key that is not there differs from one that is null."""
    if column.kind == "string":
        kind: Any = Literal[column.domain] if column.domain else str
    else:
        least, most = RANGES[column.name]
        kind = Annotated[int, Meta(ge=least, le=most)]
    return kind | None | UnsetType if column.nullable else kind


_EVENT: Final = msgspec.defstruct(
    "Event",
    [
        (column.name, _type_of(column), UNSET) if column.nullable else (column.name, _type_of(column))
        for column in LINE_COLUMNS
    ],
    kw_only=True,
    forbid_unknown_fields=True,
    gc=False,
)
_KINDS: Final = {column.name: column.wire_type() for column in LINE_COLUMNS}
_decode: Final = msgspec.json.Decoder(_EVENT).decode


def parse_lines(lines: Sequence[bytes], longest: int) -> tuple[pa.Table, list[Fault]]:
    """Return the good lines as rows of `lake.schema.EVENT_LINE`, in order, and what is wrong with the others.

    Args:
        lines: without their newlines.
        longest: bytes that a line may have.
    """
    batches: list[pa.RecordBatch] = []
    faults: list[Fault] = []
    for start in range(0, len(lines), _CHUNK):
        chunk = lines[start : start + _CHUNK]
        rows = _all_good(chunk, longest)
        if rows is None:
            rows, bad = _sorted_out(chunk, longest)
            faults += (replace(fault, index=start + fault.index) for fault in bad)
        batches.append(rows)
    return pa.Table.from_batches(batches, EVENT_LINE), faults


def _all_good(lines: Sequence[bytes], longest: int) -> pa.RecordBatch | None:
    """Return the rows if every line is good; None if one may not be."""
    joined = b"\n".join(lines)
    if max(map(len, lines)) > longest:
        return None
    try:
        events = list(map(_decode, lines))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    rows, quotes = _columns(events)
    found = joined.count(b'"')
    if _is_odd(joined):
        for line, event in zip(lines, events, strict=True):
            if _is_odd(line):
                if _fault_within(line, event) is not None:
                    return None
                # Quotes may be escaped here, and the line was looked at.
                found += _quotes(astuple(event)) - line.count(b'"')
    # The decoder takes the last of two equal keys in silence; the quotes of the other are there all the same.
    return rows if found == quotes else None


def _sorted_out(lines: Sequence[bytes], longest: int) -> tuple[pa.RecordBatch, list[Fault]]:
    """Return the rows of the good lines, and what is wrong with the others."""
    events, faults = [], []
    for index, line in enumerate(lines):
        event = _event(line, longest)
        if isinstance(event, tuple):
            code, detail = event
            faults.append(Fault(index, code, detail, line))
        else:
            events.append(event)
    return _columns(events)[0], faults


def _event(line: bytes, longest: int) -> Any:
    """Return a line's event, or a code and words for what is wrong with it."""
    if len(line) > longest:
        return "line_too_long", f"{len(line)} bytes, at most {longest}"
    try:
        event = _decode(line)
    except msgspec.ValidationError as error:
        return "bad_value", _words(error)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        return "malformed_line", _words(error)
    return _fault_within(line, event) or event


def _fault_within(line: bytes, event: Any) -> tuple[str, str] | None:
    """Return what the decoder does not see: a key that is there twice, a text that the wire's escaping cannot make."""
    try:
        json.loads(line, object_pairs_hook=refuse_twice)
    except (ValueError, RecursionError) as error:
        return "malformed_line", _words(error)
    for name in TEXTS:
        value = getattr(event, name)
        if isinstance(value, str) and not is_canonical(value):
            return "bad_text", f"Not in the wire's escaping - at `$.{name}`"
    return None


def _is_odd(data: bytes) -> bool:
    """Say whether a text in `data` may not be canonical as it stands.

    JSON has control characters below 0x20 escaped, with a backslash; 0x80 to 0x9f are 0xc2 and another byte.
    """
    return b"\\" in data or b"\x7f" in data or b"\xc2" in data


def _columns(events: list[Any]) -> tuple[pa.RecordBatch, int]:
    """Return events as rows, and how many quotes their lines have if no quote is escaped and no key is there twice."""
    if not events:
        return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in EVENT_LINE], schema=EVENT_LINE), 0
    arrays: list[Any] = []
    strings = keys = 0
    for column, given in zip(LINE_COLUMNS, zip(*map(astuple, events), strict=True), strict=True):
        unset = given.count(UNSET) if column.nullable else 0
        keys += len(events) - unset
        array = _array(given, _KINDS[column.name], unset)
        if column.kind == "string":
            strings += len(array) - array.null_count
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, schema=EVENT_LINE), 2 * (keys + strings)


def _array(given: tuple[Any, ...], kind: pa.DataType, unset: int) -> pa.Array[Any]:
    """Return a column; nearly half of them have one value throughout a batch, which is cheaper to see than to copy."""
    first = given[0]
    if given[-1] == first and given[len(given) // 2] == first and given.count(first) == len(given):
        value: Any = pa.scalar(None if first is UNSET else first, kind)
        repeated: pa.Array[Any] = pa.repeat(value, len(given))
        return repeated
    return pa.array([None if value is UNSET else value for value in given] if unset else given, kind)


def _quotes(values: Iterable[Any]) -> int:
    """Return how many quotes hold one event's keys and texts."""
    return sum(2 + 2 * isinstance(value, str) for value in values if value is not UNSET)


def _words(error: Exception) -> str:
    """Return what an error says, which may quote what an attacker wrote."""
    return escape(str(error).encode("utf-8", "backslashreplace"))[:_LONGEST_DETAIL]
