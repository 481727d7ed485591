"""The events of a body: what is plainly good is read by compiled code, the rest is judged line by line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from ingest.events import Fault, parse_lines
from ingest.plain import MOST_BYTES, Lines, Sums, reader
from lake.segments import ROWS, rows_of

FIRST_LINE: Final = 2
"""The number of a body's first line behind its header."""


@dataclass(frozen=True)
class Events:
    """The good lines as `lake.segments.ROWS`, in order; what is wrong with the others; and what the good come to.

    Those that came with dictionaries are `lake.segments.CODED_ROWS`.
    """

    rows: pa.Table
    faults: list[Fault]
    sums: Sums


def count_lines(data: bytes) -> int:
    """Return how many newlines there are."""
    compiled = reader()
    return data.count(b"\n") if compiled is None else compiled.count_lines(data)


def read_lines(lines: Lines, longest: int) -> Events:
    """Return what the lines of a body hold, each at most `longest` bytes long."""
    compiled = reader()
    if compiled is None:
        return judge(lines.data[lines.start :].split(b"\n")[:-1], longest)
    rows, (plain,), (sums,) = compiled.read_lines([lines], longest, FIRST_LINE)
    table = pa.Table.from_batches([rows])
    if sums.rows == lines.count:
        return Events(table, [], sums)
    doubtful = [index for index, good in enumerate(plain) if not good]
    raw = lines.data[lines.start :].split(b"\n")
    events = judge([raw[index] for index in doubtful], longest, doubtful)
    together = pa.concat_tables([table, events.rows])
    in_order = together.take(pc.sort_indices(together["line"]))
    return Events(in_order, events.faults, sums + events.sums)


def read_together(bodies: Sequence[Lines], longest: int) -> tuple[pa.Table, list[Sums]] | None:
    """Return what the lines of several bodies hold, in one table; None unless all of them are plainly good."""
    compiled = reader()
    if compiled is None or sum(len(lines.data) for lines in bodies) > MOST_BYTES:
        return None
    rows, _, sums = compiled.read_lines(bodies, longest, FIRST_LINE)
    if any(told.rows != lines.count for told, lines in zip(sums, bodies, strict=True)):
        return None
    return pa.Table.from_batches([rows]), sums


def read_rows(parts: Sequence[pa.RecordBatch], longest: int, most_bytes: int) -> Events | None:
    """Return what rows hold; None if one of them may be none that a line of at most `longest` bytes could say.

    Args:
        parts: as `ingest.arrow.read_stream` returns them.
        longest: bytes that a line may have.
        most_bytes: that texts from dictionaries may have in all rows together.
    """
    compiled = reader()
    if compiled is None:
        return None
    made: list[pa.RecordBatch] = []
    sums = Sums(0, None, None, 0)
    for part in parts:
        found = compiled.vouch(part, longest, FIRST_LINE + sums.rows, most_bytes)
        if found is None:
            return None
        made.append(found[0])
        sums += found[1]
    return Events(pa.Table.from_batches(made, made[0].schema if made else ROWS), [], sums)


def read_columns(data: bytes, most_rows: int, longest: int, most_bytes: int) -> tuple[bytes, Events] | None:
    """Return the batch header and what the rows hold of a stream that is plainly good; None if it may not be.

    Args:
        data: an Arrow stream, perhaps.
        most_rows: that there may be.
        longest: bytes that a line may have.
        most_bytes: that texts from dictionaries may have in all rows together.
    """
    compiled = reader()
    found = None if compiled is None else compiled.read_body(data, most_rows, longest, FIRST_LINE, most_bytes)
    if found is None:
        return None
    header, rows, sums = found
    return header, Events(pa.Table.from_batches([rows]), [], sums)


def judge(lines: Sequence[bytes], longest: int, places: Sequence[int] | None = None) -> Events:
    """Return what is in lines, each looked at for itself.

    Args:
        lines: without their newlines.
        longest: bytes that a line may have.
        places: where they were in the body, if they are not all of it.
    """
    table, faults = parse_lines(lines, longest)
    places = range(len(lines)) if places is None else places
    bad = {fault.index for fault in faults}
    numbers = pa.array([FIRST_LINE + place for index, place in enumerate(places) if index not in bad], pa.int32())
    rows = rows_of(table, numbers)
    return Events(rows, [replace(fault, index=places[fault.index]) for fault in faults], _sums(rows))


def _sums(rows: pa.Table) -> Sums:
    times, ends = pc.cast(rows["time"], pa.int64()), pc.cast(rows["last_time"], pa.int64())
    first, last = pc.min(times).as_py(), pc.max(times).as_py()
    end: Any = pc.max(ends).as_py()
    return Sums(rows.num_rows, first, last if end is None else max(last, end), pc.sum(rows["count"]).as_py() or 0)
