"""The strict parse: its fast path and its slow path must agree, and neither may change a value."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.events import LARGEST_COUNT, LINE_COLUMNS, WITH_LINE, Refusal, parse_lines
from ingest.lines import sort_out
from lake.schema import EVENT_LINE

LONGEST = 65_536
NAMES = [column.name for column in LINE_COLUMNS]


def told(table: pa.Table) -> list[dict[str, Any]]:
    """Return rows as the host wrote them: without nulls."""
    return [{key: value for key, value in row.items() if value is not None} for row in table.to_pylist()]


def test_good_lines_become_typed_columns_with_their_line_numbers(wire: ModuleType) -> None:
    table = parse_lines(wire.lines(wire.event(0), wire.event(1, path="/a\\x0ab", access=None)), LONGEST)
    assert isinstance(table, pa.Table)
    assert table.schema.equals(WITH_LINE)
    assert table["line"].to_pylist() == [2, 3]
    assert told(table.drop_columns(["line"])) == [wire.event(0), wire.event(1, path="/a\\x0ab")]


def test_no_lines_are_no_events() -> None:
    table = parse_lines(b"", LONGEST)
    assert isinstance(table, pa.Table)
    assert table.num_rows == 0
    assert table.schema.equals(WITH_LINE)


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
    assert isinstance(parse_lines(body, LONGEST), Refusal)
    table, rejected = sort_out(body, LONGEST)
    assert [(line.line, line.code, line.raw) for line in rejected] == [(3, code, bad)]
    assert rejected[0].detail
    assert table.schema.equals(WITH_LINE)
    assert table["line"].to_pylist() == [2, 4]
    assert told(table.drop_columns(["line"])) == [wire.event(0), wire.event(2)]


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
            assert isinstance(parse_lines(body, LONGEST), Refusal)
            table, rejected = sort_out(body, LONGEST)
            assert table.num_rows == 1
            assert len(rejected) == 2


def test_bytes_that_are_not_utf8_are_rejected_and_kept_as_they_came(wire: ModuleType) -> None:
    bad = wire.lines(wire.event(1))[:-1].replace(b"/srv/data", b"/srv/\xff\xfe")
    table, rejected = sort_out(wire.lines(wire.event(0), bad), LONGEST)
    assert table.num_rows == 1
    assert rejected[0].raw == bad


def test_what_an_error_quotes_is_harmless(wire: ModuleType) -> None:
    bad = wire.lines(wire.event(1))[:-2] + b',"\\u001b[31m' + b"x" * 5000 + b'":1}'
    _, rejected = sort_out(bad + b"\n", LONGEST)
    assert len(rejected[0].detail) <= 300
    assert rejected[0].detail.isprintable()


def test_every_line_may_be_bad(wire: ModuleType) -> None:
    table, rejected = sort_out(wire.lines(b"x", b"y"), LONGEST)
    assert table.num_rows == 0
    assert table.schema.equals(WITH_LINE)
    assert [line.line for line in rejected] == [2, 3]


def test_the_longest_line_is_taken_and_one_byte_more_is_not(wire: ModuleType) -> None:
    line = wire.lines(wire.event(1, path="/" + "x" * 500))
    around = (wire.lines(wire.event(0)), wire.lines(wire.event(2)))
    for order in (around[0] + line + around[1], line + around[0], around[0] + line):
        assert isinstance(parse_lines(order, len(line) - 1), pa.Table)
        assert isinstance(parse_lines(order, len(line) - 2), Refusal)


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
def test_both_paths_agree_and_neither_changes_a_value(wire: ModuleType, changes: list[dict[str, Any]]) -> None:
    events = [wire.event(seq, **change) for seq, change in enumerate(changes)]
    body = wire.lines(*events)
    fast = parse_lines(body, LONGEST)
    slow, rejected = sort_out(body, LONGEST)
    assert isinstance(fast, pa.Table) == (not rejected)
    if isinstance(fast, pa.Table):
        assert fast.equals(slow)
    bad = {line.line for line in rejected}
    kept = [event for line, event in enumerate(events, start=2) if line not in bad]
    written = [{key: value for key, value in event.items() if value is not None} for event in kept]
    found = told(slow.drop_columns(["line"]))
    assert found == written
    assert [[type(value) for value in row.values()] for row in found] == [
        [type(row[name]) for name in NAMES if name in row] for row in written
    ]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 200))
def test_any_bytes_are_either_an_event_or_rejected_as_they_came(wire: ModuleType, noise: bytes, place: int) -> None:
    line = wire.lines(wire.event(1))[:-1]
    body = line[:place] + noise + line[place:] + b"\n" + wire.lines(wire.event(2))
    table, rejected = sort_out(body, LONGEST)
    assert table.num_rows + len(rejected) == body.count(b"\n")
    raw = body.split(b"\n")
    assert all(raw[found.line - 2] == found.raw for found in rejected)
    fast = parse_lines(body, LONGEST)
    assert isinstance(fast, Refusal) or (not rejected and fast.equals(table))


def test_the_line_schema_is_the_tables(wire: ModuleType) -> None:
    assert WITH_LINE.names == [*EVENT_LINE.names, "line"]
    assert set(json.loads(wire.lines(wire.event(0)))) <= set(EVENT_LINE.names)
