"""The lines of a batch as typed columns: one strict parse that cannot null, coerce or drop anything in silence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from ingest.header import EARLIEST_US, LATEST_US
from ingest.text import ODD_PATTERN, is_canonical
from lake.schema import EVENT_LINE, EVENTS

LARGEST_COUNT: Final = 2**40
"""Occurrences that one row may stand for; far beyond what a window can hold, and sums of it stay in 64 bits."""

LINE_COLUMNS: Final = tuple(column for column in EVENTS if column.source == "event")
RANGES: Final[dict[str, tuple[int, int]]] = {
    "count": (1, LARGEST_COUNT),
    "seq": (0, 2**63 - 1),
    "cpu": (0, 2**31 - 1),
    **{column.name: (EARLIEST_US, LATEST_US) for column in LINE_COLUMNS if column.kind == "timestamp"},
}
"""What a number may be, both ends included; the rest is what its type holds. Times: what a calendar can say."""
DOMAINS: Final = {column.name: column.domain for column in LINE_COLUMNS if column.domain}
TEXTS: Final = tuple(column.name for column in LINE_COLUMNS if column.kind == "string" and not column.domain)
REQUIRED: Final = tuple(column.name for column in LINE_COLUMNS if not column.nullable)

_FIRST_LINE: Final = 2
# Nullable throughout: a missing value must come back as null for `_refusal` to see.
_LOOSE: Final = pa.schema([field.with_nullable(True) for field in EVENT_LINE])
_ALLOWED: Final = {name: pa.array(values, pa.string()) for name, values in DOMAINS.items()}
WITH_LINE: Final = EVENT_LINE.append(pa.field("line", pa.int32(), nullable=False))
"""`lake.schema.EVENT_LINE` and the row's line in the body, where the header is line 1."""


@dataclass(frozen=True)
class Refusal:
    """Why the fast path does not vouch for a body; which line it is, the slow path finds out."""

    why: str


def parse_lines(lines: bytes, max_line_bytes: int) -> pa.Table | Refusal:
    """Return the events of `lines` (each ending in a newline) with their line numbers, or why not all are good."""
    if not lines:
        return WITH_LINE.empty_table()
    rows = lines.count(b"\n")
    # A line that begins with a brace cannot be the rest of another: no column is an object.
    if not lines.startswith(b"{") or lines.count(b"\n{") != rows - 1:
        return Refusal("a line is not an object")
    if b"\0" in lines:
        return Refusal("a zero byte")
    if not _lines_fit(lines, max_line_bytes):
        return Refusal("a line is too long")
    table = parse_strictly(lines, rows)
    if isinstance(table, Refusal):
        return table
    return refusal_of(table, lines) or numbered(table, range(_FIRST_LINE, _FIRST_LINE + rows))


def parse_strictly(lines: bytes, rows: int) -> pa.Table | Refusal:
    """Return `rows` rows typed as `EVENT_LINE`, or why `lines` do not hold exactly those."""
    try:
        table = pj.read_json(
            BytesIO(lines),
            # One block: the reader would otherwise cut it where it likes and parse in parallel.
            read_options=pj.ReadOptions(use_threads=False, block_size=len(lines) + 1),
            parse_options=pj.ParseOptions(explicit_schema=_LOOSE, unexpected_field_behavior="error"),
        )
        table.validate(full=True)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        return Refusal(str(error))
    if table.num_rows != rows:
        return Refusal(f"{table.num_rows} rows in {rows} lines")
    if not table.schema.equals(_LOOSE):
        return Refusal("columns differ from the schema")
    for name in REQUIRED:
        if table[name].null_count:
            return Refusal(f"{name} is missing")
    return table.cast(EVENT_LINE)


def refusal_of(table: pa.Table, lines: bytes) -> Refusal | None:
    """Return why a value is outside its domain, or None."""
    for name, allowed in _ALLOWED.items():
        if not pc.all(pc.is_in(table[name].drop_null(), value_set=allowed), min_count=0).as_py():
            return Refusal(f"{name} is not one of its values")
    for name, (least, most) in RANGES.items():
        smallest, largest = pc.min(table[name]).as_py(), pc.max(table[name]).as_py()
        # None: nothing but nulls.
        if smallest is not None and largest is not None and (smallest < least or largest > most):
            return Refusal(f"{name} is out of range")
    if _plain(lines):
        return None
    for name in TEXTS:
        column = table[name].drop_null()
        odd = column.filter(pc.match_substring_regex(column, ODD_PATTERN))
        if not all(is_canonical(str(text)) for text in odd.to_pylist()):
            return Refusal(f"{name} is not in the wire's escaping")
    return None


def numbered(table: pa.Table, lines: Sequence[int]) -> pa.Table:
    """Return `table` with the rows' line numbers, as `WITH_LINE`."""
    column = pa.array(lines, pa.int32())
    return pa.Table.from_arrays([*table.columns, pa.chunked_array([column])], schema=WITH_LINE)


def _plain(lines: bytes) -> bool:
    """Say whether no string can hold a backslash or a control character, by bytes alone.

    JSON has the others below 0x20 escaped; 0x80 to 0x9f are 0xc2 and another byte.
    """
    return b"\\" not in lines and b"\x7f" not in lines and b"\xc2" not in lines


def _lines_fit(lines: bytes, longest: int) -> bool:
    """Say whether no line is longer than `longest` bytes, newline excluded; looks at few of the bytes."""
    start = 0
    while len(lines) - start > longest:
        end = lines.rfind(b"\n", start, start + longest + 1)
        if end < 0:
            return False
        start = end + 1
    return True
