"""Plain lines: read at machine speed, and never otherwise than the judge of lines would have it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import lines
from ingest.events import LINE_COLUMNS, RANGES
from ingest.lines import Events
from ingest.plain import Lines, Reader, Sums, reader
from lake.schema import EVENT_LINE
from lake.segments import ROWS

pytestmark = pytest.mark.skipif(reader() is None, reason="script/build-native found no C compiler")

ROOT = Path(__file__).parents[2]
LONGEST = 65_536
ORDER = (
    "time", "monotonic_ns", "count", "last_time", "cpu", "seq", "operation", "access", "path", "target_path",
    "path_status", "file_type", "mode", "mode_before", "flags", "result", "uid", "euid", "gid", "login_uid", "user",
    "pid", "ppid", "process", "exe", "process_start", "parent_process", "container_id", "mount_ns", "inode", "dev",
)  # fmt: skip
"""Keys as the agent writes them."""
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters='\\"'), max_size=12)


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    """Any event that the schema allows, in any order, and without what must be escaped."""
    columns = draw(st.permutations(LINE_COLUMNS)) if draw(st.booleans()) else LINE_COLUMNS
    made: dict[str, Any] = {}
    for column in columns:
        if column.nullable and draw(st.booleans()):
            continue
        if column.kind != "string":
            made[column.name] = draw(st.integers(max(RANGES[column.name][0], 1 - 2**63), RANGES[column.name][1]))
        else:
            made[column.name] = draw(st.sampled_from(column.domain) if column.domain else TEXTS)
    return made


def line_of(event: dict[str, Any], **options: Any) -> bytes:
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False, **options).encode()


Read = tuple[pa.Table, list[tuple[int, str, str, bytes]], Sums]


def judged(body: bytes) -> Read:
    """Judge each line for itself."""
    return told(lines.judge(body.split(b"\n")[:-1], LONGEST))


def read(body: bytes) -> Read:
    """Read a body as a server does."""
    return told(lines.read_lines(Lines(body, 0, body.count(b"\n")), LONGEST))


def told(events: Events) -> Read:
    rows = events.rows.combine_chunks()
    rows.validate(full=True)
    return rows, [(fault.index, fault.code, fault.detail, fault.raw) for fault in events.faults], events.sums


def check(body: bytes, library: Reader | None = None) -> list[bool]:
    """Plain lines must be what the judge makes of them; return which are plain."""
    compiled = library or reader()
    assert compiled is not None
    rows, (plain,), (sums,) = compiled.read_lines([Lines(body, 0, body.count(b"\n"))], LONGEST, 2)
    rows.validate(full=True)
    numbers = [index + 2 for index, good in enumerate(plain) if good]
    assert rows["line"].to_pylist() == numbers
    certain = b"".join(line + b"\n" for line, good in zip(body.split(b"\n")[:-1], plain, strict=True) if good)
    table, faults, expected = judged(certain)
    assert (faults, sums) == ([], expected)
    assert pa.Table.from_batches([rows]).drop_columns("line").equals(table.drop_columns("line"))
    return [bool(good) for good in plain]


@settings(max_examples=80, deadline=None)
@given(st.lists(events(), min_size=1, max_size=4))
def test_what_a_host_may_say_is_plain_and_means_the_same(made: list[dict[str, Any]]) -> None:
    body = b"".join(line_of(event) + b"\n" for event in made)
    odd = [b"\xc2" in line_of(event) for event in made]
    assert [odd_one or good for odd_one, good in zip(odd, check(body), strict=True)] == [True] * len(made)


def test_the_agents_own_lines_are_all_plain(wire: ModuleType) -> None:
    full = wire.event(
        access="read", target_path="/b", mode_before=0, flags=-1, last_time=5, login_uid=7, ppid=1,
        parent_process="", container_id="c", mount_ns=4026531841, inode=-(2**63) + 1, dev=0,
    )  # fmt: skip
    assert set(full) == set(ORDER)
    some = [key for key in ORDER if key in wire.event()]
    body = b"".join(
        line_of({key: (full | {"seq": seq})[key] for key in (ORDER if seq % 3 else some)}) + b"\n"
        for seq in range(5_000)
    )
    assert all(check(body))
    assert read(body) == judged(body)


NUMBERS = (
    b"01", b"-0", b"-01", b"+1", b"1.0", b"1e3", b"1E0", b"0x1", b" 1", b"1 ", b"", b"-", b"--1", b"true", b"false",
    b"null", b"NaN", b"Infinity", b'"1"', b"[1]", b"{}", b"1_0", b"9223372036854775807", b"9223372036854775808",
    b"-9223372036854775808", b"-9223372036854775809", b"18446744073709551617", b"99999999999999999999", b"0" * 40,
    b"2147483648", b"-2147483649", b"253402300799999999", b"253402300800000000", b"-62135596800000001",
    b"1099511627777", b"0", b"-1", "\u0661".encode(), "\uff11".encode(), b"1\x00", b"1\r", b"1\t", b"1,", b",1", b"1}",
)  # fmt: skip
STRINGS = (
    b"null", b"1", b"true", b"[]", b"{}", b'""', b'"a', b'a"', b'"a""b"', b'"a":1', b'"\\u0041"', b'"\\ud800"',
    b'"\\n"',
    b'"\\\\"', b'"\\\\x0a"', b'"\\\\x41"', b'"\x00"', b'"\x1f"', b'"\t"', b'"\x7f"', '"\x85"'.encode(), b'"\xff"',
    b'"\xc0\x80"', b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"', b'"\xe2\x82"', '"\u20ac\U0001f600"'.encode(), b"'a'",
    b'"open"', b'"opens"', b'"ope"', b'"Open"', b'"read"', b'"resolved"', b'"regular"', b' "a"', b'"a" ',
    b'"a",', b'"a"}',
)  # fmt: skip
AROUND = (
    b"", b" ", b"\t", b"\r", b"\x00", b"\xef\xbb\xbf", b",", b"{", b"}", b"[", b"]", b'"', b"//", b"{}", b"1", b"null",
    b'{"time":1}', b"\x1e", b"\x0b", b"\xff",
)  # fmt: skip


@pytest.mark.parametrize("column", LINE_COLUMNS, ids=lambda column: column.name)
def test_no_form_of_a_value_is_read_otherwise_than_it_is_judged(wire: ModuleType, column: Any) -> None:
    good = line_of(wire.event())
    event = wire.event(**{column.name: 0})
    written = line_of(event)
    key = f'"{column.name}":'.encode()
    body = b""
    for value in (*NUMBERS, *STRINGS):
        body += good + b"\n" + written.replace(key + b"0", key + value, 1) + b"\n"
    assert check(body)[0::2] == [True] * (len(NUMBERS) + len(STRINGS))
    assert read(body) == judged(body)


def test_no_form_of_a_line_is_read_otherwise_than_it_is_judged(wire: ModuleType) -> None:
    good = line_of(wire.event())
    keys = [f'"{key}"'.encode() for key in wire.event()]
    forms = [before + good + behind for before in AROUND for behind in AROUND]
    forms += [good.replace(key, form, 1) for key in keys for form in (
        b'"surprise"', key.upper(), key[:-1] + b' "', b'"' + key, key + b'"', key + b" ", b"," + key, key[1:], key[:-1],
        b'""', key + b":" + key, keys[0], b'"\\u0074ime"', key[:-2] + b'\\u0065"', key[:-1] + b'\x00"', b"{" + key,
        b"null",
    )]  # fmt: skip
    forms += [good[:place] + good[place + 1 :] for place in range(len(good))]
    forms += [good[:place] for place in range(len(good))]
    forms += [
        good[:-1] + b"," + more + b"}" for more in (b'"seq":0', b'"user":"ada"', b'"access":null', b'"access":"read"')
    ]
    forms += [good.replace(b":", b": ", 1), good.replace(b",", b" ,", 1), line_of(wire.event(), indent=None)]
    body = b"".join(form + b"\n" for form in forms)
    plain = check(body)
    assert plain[0]
    assert read(body) == judged(body)


MUTANTS = (
    b'"', b"\\", b":", b",", b"{", b"}", b"[", b"]", b" ", b"\n", b"0", b"-", b".", b"e", b"null", b"\x00", b"\x7f",
    b"\xc2", b"\x85", b"\xff", b'"seq":1,', b',"time":1', b'"pid":"4242"', b"true", b'\\"', b"\\u0000", b"}\n{", b'":"',
    b'","',
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(events(), min_size=1, max_size=3), st.data())
def test_whatever_is_changed_in_a_line_it_is_read_as_it_is_judged(
    made: list[dict[str, Any]], data: st.DataObject
) -> None:
    body = b"".join(line_of(event) + b"\n" for event in made)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body) - 1))
        gone = data.draw(st.sampled_from((0, 0, 1, 2, 7)))
        mutant = data.draw(st.one_of(st.sampled_from(MUTANTS), st.binary(max_size=3)))
        # Another place of the same body: keys and values that are good where they are.
        other = data.draw(st.integers(0, len(body) - 1))
        mutant = data.draw(st.sampled_from((mutant, body[other : other + 20])))
        body = body[:place] + mutant + body[place + gone :]
    body += b"\n"
    check(body)


def test_many_mutants_of_the_agents_lines_are_read_as_they_are_judged(wire: ModuleType) -> None:
    rng = random.Random(7)
    body, count = b"", 0
    pool = [line_of({key: wire.event(seq)[key] for key in ORDER if key in wire.event()}) for seq in range(50)]
    while count < 6_000:
        line = bytearray(rng.choice(pool))
        for _ in range(rng.choice((0, 1, 1, 2))):
            place = rng.randrange(len(line))
            line[place : place + rng.choice((0, 1, 1, 3))] = rng.choice(MUTANTS)
        body, count = body + bytes(line) + b"\n", count + 1
    plain = check(body)
    assert 0 < sum(plain) < len(plain)
    assert read(body) == judged(body)


def test_lines_keep_their_order_among_those_that_are_judged(wire: ModuleType) -> None:
    made = [wire.event(seq, path=f"/{seq}" + ("\\\\" if seq % 7 == 0 else "")) for seq in range(3_000)]
    body = b"".join((b"x" if seq % 500 == 3 else line_of(event)) + b"\n" for seq, event in enumerate(made))
    table, faults, sums = read(body)
    assert [fault[0] for fault in faults] == list(range(3, 3_000, 500))
    assert table["seq"].to_pylist() == [seq for seq in range(3_000) if seq % 500 != 3]
    assert table["line"].to_pylist() == [seq + 2 for seq in range(3_000) if seq % 500 != 3]
    assert (table.schema.equals(ROWS), sums.rows) == (True, table.num_rows)


def test_a_long_line_and_lines_of_nothing_are_rejected(wire: ModuleType) -> None:
    good = line_of(wire.event())
    body = good + b"\n" + b'{"path":"' + b"x" * 3_000_000 + b'"}\n' + b"\n" * 20_000 + good + b"\n"
    table, faults, _ = read(body)
    assert table.num_rows == 2
    assert [fault[1] for fault in faults] == ["line_too_long"] + ["malformed_line"] * 20_000


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 64, 254 * 32, 255 * 32, 255 * 32 + 7, 256 * 32, 40_000])
def test_newlines_are_counted_as_python_counts_them(size: int) -> None:
    every, some = b"\n" * size, bytes(random.Random(size).choices(b"\n\r\x8a\x0b\x00\x09", k=size))
    assert [lines.count_lines(data) for data in (every, some, b"x" * size)] == [size, some.count(b"\n"), 0]


@pytest.mark.parametrize("odd", ["\x00", "\x1f", "\\", "\x7f", "\x80", "\x9f"])
def test_no_column_is_vouched_for_that_holds_an_odd_character_wherever_it_is(wire: ModuleType, odd: str) -> None:
    compiled, kept = reader(), ' ~"[]!é\U0001f600' + "a" * 12
    assert compiled is not None
    for place in range(len(kept) + 1):
        for path, good in ((kept[:place] + odd + kept[place:], False), (kept[:place] + "é" + kept[place:], True)):
            events = [wire.event(0), wire.event(1) | {"path": path}, wire.event(2)]
            found = compiled.vouch(pa.Table.from_pylist(events, EVENT_LINE).to_batches()[0], LONGEST)
            assert (found is not None) == good, (place, path)


@pytest.mark.parametrize("name", ["count", "uid", "inode", "mode_before"])
def test_no_column_is_vouched_for_that_holds_a_number_out_of_range(wire: ModuleType, name: str) -> None:
    compiled, field = reader(), EVENT_LINE.field(name)
    least, most = RANGES[name]
    smallest, greatest = (-(2**31), 2**31 - 1) if field.type == pa.int32() else (-(2**63), 2**63 - 1)
    assert compiled is not None
    for value, good in ((least, True), (most, True), (least - 1, False), (most + 1, False)):
        if smallest <= value <= greatest:
            rows = pa.Table.from_pylist([wire.event(0), wire.event(1) | {name: value}, wire.event(2)], EVENT_LINE)
            assert (compiled.vouch(rows.to_batches()[0], LONGEST) is not None) == good, value


def test_what_stands_below_a_null_is_no_number(wire: ModuleType) -> None:
    compiled, last = reader(), 1_700_000_000_000_009
    assert compiled is not None
    events = [wire.event(0) | {"last_time": last}, wire.event(1) | {"last_time": last}]
    rows = pa.RecordBatch.from_pylist(events, EVENT_LINE)
    place, kind = rows.schema.get_field_index("last_time"), rows.schema.field("last_time").type
    values = pa.array([-(2**63), last], kind).buffers()[1]
    for valid, good in ((b"\x02", True), (b"\x03", False)):
        columns: list[Any] = list(rows.columns)
        columns[place] = pa.Array.from_buffers(kind, 2, [pa.py_buffer(valid), values])
        given = pa.RecordBatch.from_arrays(columns, rows.schema.names)
        assert (compiled.vouch(given, LONGEST) is not None) == good


def test_where_nothing_is_compiled_all_is_judged(wire: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    body = b"".join(line_of(wire.event(seq)) + b"\n" for seq in range(100))
    parts = [pa.RecordBatch.from_pylist([wire.event(seq) for seq in range(100)], schema=EVENT_LINE)]
    by_code, from_columns = read(body), lines.read_rows(parts, LONGEST, 2**26)
    monkeypatch.setattr(lines, "reader", lambda: None)
    assert read(body) == by_code
    assert lines.read_rows(parts, LONGEST, 2**26) is None
    assert from_columns is not None
    assert told(from_columns) == by_code
