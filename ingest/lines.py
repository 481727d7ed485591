"""The lines of a batch, one at a time: finds the bad ones, says what is wrong with them, and keeps the good ones."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

import msgspec
import pyarrow as pa
from msgspec import Meta

from ingest.events import DOMAINS, LINE_COLUMNS, RANGES, TEXTS, WITH_LINE, Refusal, numbered, parse_strictly, refusal_of
from ingest.header import refuse_twice
from ingest.text import is_canonical
from kaimon.base.escape import escape
from lake.columns import Column
from lake.segments import Rejected

_BITS: Final = {"int32": 31, "int64": 63, "timestamp": 63}
_LINE: Final = 2
_LONGEST_DETAIL: Final = 300


def _type_of(column: Column) -> Any:
    """Return what msgspec checks: type and range, so that its message names the field."""
    if column.kind == "string":
        kind: Any = str
    else:
        limit = 2 ** _BITS[column.kind]
        least, most = RANGES.get(column.name, (-limit, limit - 1))
        kind = Annotated[int, Meta(ge=least, le=most)]
    return kind | None if column.nullable else kind


_EVENT: Final = msgspec.defstruct(
    "Event",
    [
        (column.name, _type_of(column), None) if column.nullable else (column.name, _type_of(column))
        for column in LINE_COLUMNS
    ],
    kw_only=True,
    forbid_unknown_fields=True,
)
_DECODER: Final = msgspec.json.Decoder(_EVENT)


def sort_out(lines: bytes, max_line_bytes: int) -> tuple[pa.Table, list[Rejected]]:
    """Return the good lines as typed columns with their line numbers, and the bad ones with what is wrong.

    Args:
        lines: every line of the batch after its header, each ending in a newline.
        max_line_bytes: longer lines are bad.
    """
    good: list[tuple[int, bytes]] = []
    bad: list[Rejected] = []
    for number, line in enumerate(lines.split(b"\n")[:-1], start=_LINE):
        fault = _fault_of(line, max_line_bytes)
        if fault is None:
            good.append((number, line))
        else:
            bad.append(Rejected(number, *fault, line))
    tables: list[pa.Table] = []
    _parse(good, tables, bad)
    table = pa.concat_tables(tables) if tables else WITH_LINE.empty_table()
    return table.combine_chunks(), sorted(bad, key=lambda rejected: rejected.line)


def _fault_of(line: bytes, max_line_bytes: int) -> tuple[str, str] | None:
    """Return a code and words for what is wrong with a line, or None."""
    if len(line) > max_line_bytes:
        return "line_too_long", f"{len(line)} bytes, at most {max_line_bytes}"
    try:
        event = _DECODER.decode(line)
        json.loads(line, object_pairs_hook=refuse_twice)
    except msgspec.ValidationError as error:
        return "bad_value", _words(error)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        return "malformed_line", _words(error)
    for name, allowed in DOMAINS.items():
        value = getattr(event, name)
        if value is not None and value not in allowed:
            return "bad_value", f"Expected one of {', '.join(allowed)} - at `$.{name}`"
    for name in TEXTS:
        value = getattr(event, name)
        if value is not None and not is_canonical(value):
            return "bad_text", f"Not in the wire's escaping - at `$.{name}`"
    return None


def _words(error: Exception) -> str:
    """Return what an error says, which may quote what an attacker wrote."""
    return escape(str(error).encode("utf-8", "backslashreplace"))[:_LONGEST_DETAIL]


def _parse(good: list[tuple[int, bytes]], tables: list[pa.Table], bad: list[Rejected]) -> None:
    """Parse lines that look good; halve them until every one that the parser does not take is found."""
    if not good:
        return
    lines = b"".join(line + b"\n" for _, line in good)
    table = parse_strictly(lines, len(good))
    if not isinstance(table, Refusal):
        refusal = refusal_of(table, lines)
        if refusal is None:
            tables.append(numbered(table, [number for number, _ in good]))
            return
    else:
        refusal = table
    if len(good) == 1:
        number, line = good[0]
        bad.append(Rejected(number, "malformed_line", refusal.why[:_LONGEST_DETAIL], line))
    else:
        middle = len(good) // 2
        _parse(good[:middle], tables, bad)
        _parse(good[middle:], tables, bad)
