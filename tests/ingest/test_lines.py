"""The strict parse: reading all lines at once and judging each alone must agree, and neither may change a value."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import events
from ingest.events import LARGEST_COUNT, LINE_COLUMNS, Fault, parse_lines
from ingest.lines import judge, read_lines
from ingest.plain import Lines
from lake.schema import EVENT_LINE
from lake.segments import rows_of

LONGEST = 65_536
NAMES = [column.name for column in LINE_COLUMNS]


def parse(body: bytes, longest: int = LONGEST) -> tuple[pa.Table, list[Fault]]:
    """Parse lines that each end in a newline; all ways must agree."""
    lines = body.split(b"\n")[:-1]
    table, faults = parse_lines(lines, longest)
    alone = [events._sorted_out([line], longest) for line in lines]
    assert table.equals(pa.Table.from_batches([rows for rows, _ in alone], EVENT_LINE))
    whole = read_lines(Lines(body, 0, len(lines)), longest) if lines else judge([], longest)
    whole.rows.validate(full=True)
    bad = {fault.index for fault in faults}
    numbers = pa.array([index + 2 for index in range(len(lines)) if index not in bad], pa.int32())
    assert whole.rows.combine_chunks().equals(rows_of(table, numbers).combine_chunks())
    assert whole.faults == faults
    found = [(index, fault.code, fault.detail) for index, (_, bad) in enumerate(alone) for fault in bad]
    assert [(fault.index, fault.code, fault.detail) for fault in faults] == found
    return table, faults


def told(table: pa.Table) -> list[dict[str, Any]]:
    """Return rows as the host wrote them: without nulls."""
    return [{key: value for key, value in row.items() if value is not None} for row in table.to_pylist()]


def test_good_lines_become_typed_columns(wire: ModuleType) -> None:
    table, faults = parse(wire.lines(wire.event(0), wire.event(1, path="/a\\x0ab", access=None)))
    assert faults == []
    assert table.schema.equals(EVENT_LINE)
    assert told(table) == [wire.event(0), wire.event(1, path="/a\\x0ab")]


def test_no_lines_are_no_events() -> None:
    table, faults = parse(b"")
    assert (table.num_rows, faults) == (0, [])
    assert table.schema.equals(EVENT_LINE)


def test_many_lines_keep_their_order_and_faults_their_places(wire: ModuleType) -> None:
    body = wire.lines(*(b"x" if seq % 700 == 3 else wire.event(seq) for seq in range(2_500)))
    table, faults = parse_lines(body.split(b"\n")[:-1], LONGEST)
    assert [fault.index for fault in faults] == [3, 703, 1403, 2103]
    assert table["seq"].to_pylist() == [seq for seq in range(2_500) if seq % 700 != 3]


CASES: dict[str, tuple[Any, str]] = {
    "a wrong type": ({"pid": "4242"}, "bad_value"),
    "a fraction": ({"time": 1.5}, "bad_value"),
    "a whole fraction": ({"time": 1.0}, "bad_value"),
    "a truth value": ({"uid": True}, "bad_value"),
    "a missing field": ({"time": ...}, "bad_value"),
    "a null where there must be a value": ({"process": None}, "bad_value"),
    "an unknown field": ({"surprise": 1}, "bad_value"),
    "an object": ({"path": {"a": 1}}, "bad_value"),
    "too large a number": ({"inode": 2**63}, "bad_value"),
    "too large a small number": ({"mode": 2**31}, "bad_value"),
    "an operation that is none": ({"operation": "read"}, "bad_value"),
    "an access that is none": ({"access": "append"}, "bad_value"),
    "a status that is none": ({"path_status": ""}, "bad_value"),
    "a file type that is none": ({"file_type": "Regular"}, "bad_value"),
    "no occurrence": ({"count": 0}, "bad_value"),
    "more occurrences than can be": ({"count": LARGEST_COUNT + 1}, "bad_value"),
    "a negative row number": ({"seq": -1}, "bad_value"),
    "a negative CPU": ({"cpu": -1}, "bad_value"),
    "a time after the year 9999": ({"time": 253_402_300_800_000_000}, "bad_value"),
    "a start before the year 1": ({"process_start": -62_135_596_800_000_001}, "bad_value"),
    "a newline in a path": ({"path": "/a\nb"}, "bad_text"),
    "a zero byte in a path": ({"path": "/a\x00b"}, "bad_text"),
    "a delete character": ({"process": "a\x7f"}, "bad_text"),
    "a C1 control character": ({"exe": "/a\u009b"}, "bad_text"),
    "a backslash that begins nothing": ({"path": "C:\\dir"}, "bad_text"),
    "an escape that need not be": ({"target_path": "/\\x41"}, "bad_text"),
    "an escape in capitals": ({"user": "\\xFF"}, "bad_text"),
    "a container with a newline": ({"container_id": "a\n"}, "bad_text"),
    "a long line": ({"path": "/" + "x" * LONGEST}, "line_too_long"),
}
RAW: dict[str, tuple[bytes, str]] = {
    "an empty line": (b"", "malformed_line"),
    "garbage": (b"\x00\xff garbage", "malformed_line"),
    "a list": (b"[]", "bad_value"),
    "a number": (b"7", "bad_value"),
    "an empty object": (b"{}", "bad_value"),
    "half an object": (b'{"time":1', "malformed_line"),
    "deep nesting": (b'{"path":' + b"[" * 60_000, "bad_value"),
    "deeper nesting": (b"[" * 60_000, "bad_value"),
    "not a number": (b'{"time":NaN}', "malformed_line"),
}


@pytest.mark.parametrize("name", [*CASES, *RAW])
def test_one_bad_line_is_named_and_its_neighbours_stay(wire: ModuleType, name: str) -> None:
    bad, code = RAW[name] if name in RAW else (wire.lines(wire.event(1, **CASES[name][0]))[:-1], CASES[name][1])
    body = wire.lines(wire.event(0), bad, wire.event(2))
    table, faults = parse(body)
    assert [(fault.index, fault.code) for fault in faults] == [(1, code)]
    assert faults[0].detail
    assert table.schema.equals(EVENT_LINE)
    assert told(table) == [wire.event(0), wire.event(2)]


def test_tricks_with_line_ends_cannot_shift_rows(wire: ModuleType) -> None:
    one = wire.lines(wire.event(1))[:-1]
    for bad in (
        one + one,
        one + b"\0" + one,
        one[:-1] + b',"seq":9}',
        one + b" garbage",
        one.replace(b"4242", b"\\ud800"),
    ):
        for body in (wire.lines(wire.event(0), bad, b""), wire.lines(b"", bad, wire.event(0))):
            table, faults = parse(body)
            assert table.num_rows == 1
            assert len(faults) == 2


@pytest.mark.parametrize("twice", [b',"seq":1}', b',"path":"/srv/data/1"}', b',"access":null,"access":null}'])
def test_a_key_that_is_there_twice_is_found_among_good_lines(wire: ModuleType, twice: bytes) -> None:
    bad = wire.lines(wire.event(1))[:-2] + twice
    for neighbour in (wire.event(0), wire.event(0, path='/with "quotes"'), wire.event(0, path="/a\\x0a")):
        table, faults = parse(wire.lines(neighbour, bad))
        assert [(fault.index, fault.code) for fault in faults] == [(1, "malformed_line")]
        assert "twice" in faults[0].detail
        assert table.num_rows == 1


def test_bytes_that_are_not_utf8_are_rejected(wire: ModuleType) -> None:
    bad = wire.lines(wire.event(1))[:-1].replace(b"/srv/data", b"/srv/\xff\xfe")
    table, faults = parse(wire.lines(wire.event(0), bad))
    assert table.num_rows == 1
    assert [fault.index for fault in faults] == [1]


def test_what_an_error_quotes_is_harmless(wire: ModuleType) -> None:
    bad = wire.lines(wire.event(1))[:-2] + b',"\\u001b[31m' + b"x" * 5000 + b'":1}'
    _, (fault,) = parse(bad + b"\n")
    assert len(fault.detail) <= 300
    assert fault.detail.isprintable()


def test_every_line_may_be_bad(wire: ModuleType) -> None:
    table, faults = parse(wire.lines(b"x", b"y"))
    assert table.num_rows == 0
    assert table.schema.equals(EVENT_LINE)
    assert [fault.index for fault in faults] == [0, 1]


def test_the_longest_line_is_taken_and_one_byte_more_is_not(wire: ModuleType) -> None:
    line = wire.lines(wire.event(1, path="/" + "x" * 500))
    around = (wire.lines(wire.event(0)), wire.lines(wire.event(2)))
    for order in (around[0] + line + around[1], line + around[0], around[0] + line):
        assert parse(order, len(line) - 1)[1] == []
        assert [fault.code for fault in parse(order, len(line) - 2)[1]] == ["line_too_long"]


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**65), 2**65),
    st.integers(-3, 3),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["open", "read", "resolved", "regular", "\\\\", "\\x0a", "\\x41", "\\", "é", "\x85", "1"]),
    st.lists(st.integers(), max_size=2),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from([*NAMES, "surprise"]), VALUES, max_size=2), min_size=1, max_size=4))
def test_no_value_is_changed_and_what_is_not_an_event_is_rejected(
    wire: ModuleType, changes: list[dict[str, Any]]
) -> None:
    events = [wire.event(seq, **change) for seq, change in enumerate(changes)]
    table, faults = parse(wire.lines(*events))
    bad = {fault.index for fault in faults}
    kept = [event for index, event in enumerate(events) if index not in bad]
    written = [{key: value for key, value in event.items() if value is not None} for event in kept]
    found = told(table)
    assert found == written
    assert [[type(value) for value in row.values()] for row in found] == [
        [type(row[name]) for name in NAMES if name in row] for row in written
    ]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 200))
def test_any_bytes_are_either_an_event_or_rejected(wire: ModuleType, noise: bytes, place: int) -> None:
    line = wire.lines(wire.event(1))[:-1]
    body = line[:place] + noise + line[place:] + b"\n" + wire.lines(wire.event(2))
    table, faults = parse(body)
    assert table.num_rows + len(faults) == body.count(b"\n")
