"""The Arrow body: as strict as lines, the same rows, and no way to hide a bomb in it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import arrow, lines
from ingest.batch import ARROW, Arrived, Batch, Unread, read_batch, read_batches
from ingest.plain import reader
from ingest.settings import IngestSettings
from kaimon.base.problems import Problem
from lake.schema import EVENT_LINE
from tenancy.credentials import HostIdentity

AGENT = "agt_0123456789abcdef"
LOOSE = pa.schema([field.with_nullable(True) for field in EVENT_LINE])


def stream(header: Any, table: pa.Table, **options: Any) -> bytes:
    """Return an Arrow stream with the header in its schema's metadata."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    marked = table.replace_schema_metadata({b"kaimon.batch": text})
    target = io.BytesIO()
    with pa.ipc.new_stream(target, marked.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(marked)
    return target.getvalue()


def table_of(*events: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(events), schema=LOOSE)


def read(data: bytes, kind: str = ARROW) -> Batch:
    sender = HostIdentity("acme", AGENT, "host-1", "active")
    return read_batch(Unread(Arrived(zstandard.compress(data), "0" * 64, 1, sender, kind), IngestSettings()))


def refusal(data: bytes) -> Problem:
    with pytest.raises(Problem) as refused:
        read(data)
    return refused.value


@pytest.fixture
def host(wire: ModuleType) -> Any:
    return wire.Host("acme", AGENT, "")


def test_columns_and_lines_of_the_same_events_are_the_same_batch(wire: ModuleType, host: Any) -> None:
    events = [wire.event(0), wire.event(1, path="/a\\x0a", target_path="/naïve", access="read"), wire.event(2)]
    header = host.header()
    columns, lines = read(stream(header, table_of(*events))), read(wire.lines(header, *events), "application/x-ndjson")
    assert columns.record == lines.record
    assert columns.rows.equals(lines.rows)
    assert columns.rejected == lines.rejected == []


def test_columns_among_lines_are_read_for_themselves_and_the_lines_together(wire: ModuleType, host: Any) -> None:
    sender = HostIdentity("acme", AGENT, "host-1", "active")
    groups = [[wire.event(number, path=f"/{number}/{row}") for row in range(3)] for number in range(4)]
    bodies = [(wire.lines(host.header(), *events), "application/x-ndjson") for events in groups]
    bodies.insert(1, (stream(host.header(), table_of(*groups[1])), ARROW))
    bodies.insert(3, (b"no stream", ARROW))
    given = [
        Unread(Arrived(zstandard.compress(body), f"{place:064x}", 1, sender, kind), IngestSettings())
        for place, (body, kind) in enumerate(bodies)
    ]
    found = read_batches(given)
    assert isinstance(found[3], Problem)
    read = [batch for batch in found if isinstance(batch, Batch)]
    assert [batch.record.digest for batch in read] == [given[place].arrived.digest for place in (0, 1, 2, 4, 5)]
    assert len({id(read[place].table) for place in (0, 2, 3, 4)}) == 1
    assert read[1].table is not read[0].table
    paths = [batch.rows["path"].to_pylist() for batch in read]
    assert paths == [[event["path"] for event in groups[at]] for at in (0, 1, 1, 2, 3)]


def test_a_bad_row_is_rejected_under_its_number_as_a_line_that_says_the_same(wire: ModuleType, host: Any) -> None:
    bad = wire.event(1, operation="read")
    batch = read(stream(host.header(), table_of(wire.event(0), bad, wire.event(2))))
    (rejected,) = batch.rejected
    assert (rejected.line, rejected.code) == (3, "bad_value")
    assert json.loads(rejected.raw) == bad
    assert batch.rows["line"].to_pylist() == [2, 4]


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "a null where there must be a value": ({"process": None}, "bad_value"),
    "no occurrence": ({"count": 0}, "bad_value"),
    "a negative row number": ({"seq": -1}, "bad_value"),
    "a time after the year 9999": ({"last_time": 253_402_300_800_000_000}, "bad_value"),
    "an access that is none": ({"access": "append"}, "bad_value"),
    "a newline in a path": ({"path": "/a\nb"}, "bad_text"),
    "a zero byte": ({"exe": "a\0"}, "bad_text"),
    "a delete character": ({"user": "a\x7f"}, "bad_text"),
    "a C1 control character": ({"path": "/\u009b"}, "bad_text"),
    "an escape that need not be": ({"target_path": "/\\x41"}, "bad_text"),
    "a long text": ({"path": "/" + "x" * 70_000}, "line_too_long"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_rows_are_held_to_what_lines_are_held_to(wire: ModuleType, host: Any, name: str) -> None:
    change, code = FAULTS[name]
    batch = read(stream(host.header(), table_of(wire.event(0), wire.event(1, **change))))
    assert [(line.line, line.code) for line in batch.rejected] == [(3, code)]
    assert batch.rows.num_rows == 1


def test_columns_that_may_be_null_may_be_left_out_and_no_others(wire: ModuleType, host: Any) -> None:
    needed = [field.name for field in EVENT_LINE if not field.nullable]
    rows = table_of(wire.event(0), wire.event(1))
    batch = read(stream(host.header(), rows.select(list(reversed(needed)))))
    assert batch.rows["seq"].to_pylist() == [0, 1]
    assert batch.rows["user"].null_count == 2
    for name in needed:
        assert "missing" in (refusal(stream(host.header(), rows.drop_columns(name))).detail or "")


def test_texts_may_come_as_dictionaries_and_mean_the_same(wire: ModuleType, host: Any) -> None:
    events = [wire.event(0), wire.event(1, path="/naïve", access="read", exe=None), wire.event(2), wire.event(3)]
    header, rows = host.header(), table_of(*events)
    lines = read(wire.lines(header, *events), "application/x-ndjson")
    some = [name for name in rows.column_names if rows[name].null_count < len(events)]
    forms = {
        "all": coded(rows),
        "narrow": coded(rows, index=pa.int8()),
        "not so narrow": coded(rows, "path", index=pa.int16()),
        "some": coded(rows, "path", "exe"),
        "without nulls": coded(rows.select(some)),
        "in parts": pa.concat_tables([coded(rows).slice(0, 1), coded(rows).slice(1)]).unify_dictionaries(),
        "with values that no row has": pointed(rows, [1, 2, 1, 1], ["/unused", "/srv/data/1", "/naïve"]),
        "with a value twice": pointed(rows, [0, 2, 1, 0], ["/srv/data/1", "/srv/data/1", "/naïve"]),
    }
    paths = [event["path"] for event in events]
    for form, table in forms.items():
        batch = read(stream(header, table))
        assert batch.rows["path"].to_pylist() == (table["path"].to_pylist() if "value" in form else paths), form
        if "value" not in form:
            assert batch.record == lines.record, form
            assert batch.rows.cast(lines.rows.schema).equals(lines.rows), form
    assert read(stream(header, coded(table_of()))).rows.num_rows == 0
    assert read(stream(header, pointed(rows, [0, 1, 1, 1], ["/a", "/b"]))).rows["path"].type == pa.dictionary(
        pa.int32(), pa.string()
    )


@pytest.mark.parametrize("name", FAULTS)
def test_rows_of_dictionaries_are_held_to_what_lines_are_held_to(wire: ModuleType, host: Any, name: str) -> None:
    change, code = FAULTS[name]
    batch = read(stream(host.header(), coded(table_of(wire.event(0), wire.event(1, **change), wire.event(2)))))
    assert [(line.line, line.code) for line in batch.rejected] == [(3, code)]
    assert batch.rows["line"].to_pylist() == [2, 4]


@pytest.mark.parametrize("odd", ["\n", "/\\x41", "\u009b", "/" + "x" * 70_000])
def test_a_value_that_no_row_has_is_nobodys_fault(wire: ModuleType, host: Any, odd: str) -> None:
    batch = read(stream(host.header(), pointed(table_of(wire.event(0), wire.event(1)), [1, 1], [odd, "/a"])))
    assert batch.rejected == []
    assert batch.rows["path"].to_pylist() == ["/a", "/a"]


def test_what_stands_below_a_null_is_no_index(wire: ModuleType, host: Any) -> None:
    rows = table_of(wire.event(0), wire.event(1))
    values = pa.array([7, 0], pa.int32()).buffers()[1]
    indices = pa.Array.from_buffers(pa.int32(), 2, [pa.py_buffer(b"\x02"), values])
    given = coded(rows)
    column = pa.DictionaryArray.from_arrays(indices, pa.array(["/bin/cat"]), safe=False)
    batch = read(stream(host.header(), given.set_column(given.schema.get_field_index("exe"), "exe", column)))
    assert batch.rejected == []
    assert batch.rows["exe"].to_pylist() == [None, "/bin/cat"]


@pytest.mark.parametrize("size", [2_000, 20_000])
def test_a_dictionary_is_no_way_past_the_size_of_a_body(wire: ModuleType, host: Any, size: int) -> None:
    rows = table_of(wire.event(0)).take(pa.array([0] * 40_000))
    path = "/" + "x" * size
    assert refusal(stream(host.header(), pointed(rows, [0] * 40_000, [path]))).code == "too_large"
    few = read(stream(host.header(), pointed(rows, [0] * 39_999 + [1], ["/a", path])))
    assert few.rows["path"].to_pylist()[39_998:] == ["/a", path]
    assert few.rejected == []


def test_a_batch_without_rows_and_one_in_parts_are_batches(wire: ModuleType, host: Any) -> None:
    assert read(stream(host.header(), table_of())).rows.num_rows == 0
    parts = pa.concat_tables([table_of(wire.event(0)), table_of(wire.event(1)), table_of(wire.event(2))])
    assert read(stream(host.header(), parts)).rows["line"].to_pylist() == [2, 3, 4]


def retyped(rows: pa.Table, name: str, kind: pa.DataType) -> pa.Table:
    return rows.set_column(rows.schema.get_field_index(name), pa.field(name, kind), rows[name].cast(kind))


INT32 = pa.int32()
TEXTS = [field.name for field in EVENT_LINE if field.type == pa.string()]
LONG, WIDE = pa.dictionary(pa.int32(), pa.large_string()), pa.dictionary(pa.int64(), pa.string())
ORDERED = pa.dictionary(pa.int32(), pa.string(), ordered=True)


def coded(rows: pa.Table, *but: str, index: pa.DataType = INT32) -> pa.Table:
    """Return rows whose texts are dictionaries."""
    kind = pa.dictionary(index, pa.string())
    columns = [
        rows[name].cast(kind) if rows[name].type == pa.string() and name not in but else rows[name]
        for name in rows.column_names
    ]
    return pa.table(columns, rows.column_names)


def renumbered(rows: pa.Table, name: str) -> pa.Table:
    """Return rows of which a column of numbers is a dictionary."""
    return rows.set_column(rows.schema.get_field_index(name), name, rows[name].dictionary_encode())


def pointed(rows: pa.Table, indices: list[int | None], values: list[str | None], name: str = "path") -> pa.Table:
    """Return rows of which a column has this dictionary, and these indices, whether it has them or not."""
    column = pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), pa.array(values, pa.string()), safe=False)
    given = coded(rows)
    return given.set_column(given.schema.get_field_index(name), name, column)


def in_pieces(header: Any, *tables: pa.Table, **options: Any) -> bytes:
    """Return a stream of tables each of which brings its own dictionaries, where they differ from those before."""
    target = io.BytesIO()
    schema = tables[0].replace_schema_metadata({b"kaimon.batch": json.dumps(header).encode()}).schema
    with pa.ipc.new_stream(target, schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        for table in tables:
            writer.write_table(table)
    return target.getvalue()


def spliced(data: bytes, change: Callable[[list[Any]], list[Any]]) -> bytes:
    """Return a stream with its messages behind the schema changed."""
    first, *rest = pa.ipc.MessageReader.open_stream(data)
    return (
        b"".join(message.serialize().to_pybytes() for message in (first, *change(rest))) + b"\xff\xff\xff\xff\0\0\0\0"
    )


BAD: dict[str, Callable[[Any, pa.Table], bytes]] = {
    "nothing": lambda _header, _rows: b"",
    "garbage": lambda _header, _rows: b"x" * 100,
    "lines": lambda header, _rows: json.dumps(header).encode() + b"\n",
    "another type": lambda header, rows: stream(header, retyped(rows, "pid", pa.int32())),
    "times as timestamps": lambda header, rows: stream(header, retyped(rows, "time", pa.timestamp("us"))),
    "a dictionary of long offsets": lambda header, rows: stream(header, retyped(rows, "path", LONG)),
    "a dictionary with indices that have no sign": lambda header, rows: stream(header, coded(rows, index=pa.uint8())),
    "a dictionary with an order": lambda header, rows: stream(header, retyped(rows, "path", ORDERED)),
    "a dictionary of numbers": lambda header, rows: stream(header, renumbered(rows, "pid")),
    "a dictionary with other indices": lambda header, rows: stream(header, retyped(rows, "path", WIDE)),
    "an index beyond its dictionary": lambda header, rows: stream(header, pointed(rows, [1], ["/a"])),
    "an index before its dictionary": lambda header, rows: stream(header, pointed(rows, [-1], ["/a"])),
    "a null in a dictionary": lambda header, rows: stream(header, pointed(rows, [0], ["/a", None])),
    "compressed dictionaries": lambda header, rows: stream(header, coded(rows), compression="zstd"),
    "a dictionary in another's place": lambda header, rows: in_pieces(header, coded(rows), pointed(rows, [0], ["/b"])),
    "a dictionary that adds to one": lambda header, rows: in_pieces(
        header, pointed(rows, [0], ["/a"]), pointed(rows, [1], ["/a", "/b"]), emit_dictionary_deltas=True
    ),
    "a dictionary twice": lambda header, rows: spliced(stream(header, coded(rows)), lambda all_: [all_[1], *all_[1:]]),
    "a dictionary too few": lambda header, rows: spliced(stream(header, coded(rows)), lambda all_: all_[2:]),
    "a dictionary behind the rows": lambda header, rows: spliced(stream(header, coded(rows)), lambda all_: all_[::-1]),
    "an unknown column": lambda header, rows: stream(header, rows.append_column("surprise", rows["pid"])),
    "a column twice": lambda header, rows: stream(header, rows.append_column("pid", rows["pid"])),
    "compressed buffers": lambda header, rows: stream(header, rows, compression="zstd"),
    "no end": lambda header, rows: stream(header, rows)[:-8],
    "something behind it": lambda header, rows: stream(header, rows) * 2,
    "cut short": lambda header, rows: stream(header, rows)[:-200] + b"\xff\xff\xff\xff\0\0\0\0",
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_such_a_stream_is_refused(wire: ModuleType, host: Any, name: str) -> None:
    problem = refusal(BAD[name](host.header(), table_of(wire.event(0))))
    assert (problem.status, problem.code) == (400, "malformed_body")


@pytest.mark.parametrize("name", [name for name in BAD if "dictionar" in name or "compressed" in name])
def test_what_code_does_not_see_through_is_seen_without_it(
    wire: ModuleType, host: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrow, "reader", lambda: None)
    monkeypatch.setattr(lines, "reader", lambda: None)
    assert refusal(BAD[name](host.header(), table_of(wire.event(0)))).code == "malformed_body"


@pytest.mark.skipif(reader() is None, reason="script/build-reader found no C compiler")
def test_a_plain_stream_is_seen_through(wire: ModuleType, host: Any) -> None:
    rows, compiled = table_of(wire.event(0)), reader()
    assert compiled is not None
    parts = pa.concat_tables([rows, rows])
    for table, batches in ((rows, 1), (parts, 2), (rows.slice(0, 0), 0)):
        assert compiled.look_through(stream(host.header(), table)) == (0, batches)
    assert compiled.look_through(stream(host.header(), coded(rows))) == (len(TEXTS), 1)
    for name in (
        "nothing", "no end", "something behind it", "cut short", "compressed buffers", "compressed dictionaries",
        "a dictionary in another's place", "a dictionary that adds to one", "a dictionary twice",
        "a dictionary behind the rows",
    ):  # fmt: skip
        assert compiled.look_through(BAD[name](host.header(), rows)) is None, name


def both(data: bytes) -> tuple[Any, Any]:
    """Return what is read of a stream without Arrow and with it; None if it is not plain."""
    found = lines.read_columns(data, 250_000, 65_536, 2**26)
    if found is None:
        return None, None
    header, parts = arrow.read_stream(data, 250_000)
    return found, (header, lines.read_rows(parts, 65_536, 2**26))


@pytest.mark.skipif(reader() is None, reason="script/build-reader found no C compiler")
def test_a_plain_body_is_read_without_arrow_as_with_it(wire: ModuleType, host: Any) -> None:
    events = [wire.event(0), wire.event(1, path="/naïve", access="read", exe=None), wire.event(2), wire.event(3)]
    rows = table_of(*events)
    some = [name for name in rows.column_names if rows[name].null_count < len(events)]
    for table in (
        rows, rows.select(some), rows.select(some[::-1]), coded(rows), coded(rows.select(some)),
        coded(rows, index=pa.int8()), coded(rows, index=pa.int16()), coded(rows.select(some[::-1]), index=pa.int8()),
        pointed(rows, [1, 2, 1, 1], ["/unused", "/srv/data/1", "/naïve"]), rows.take(pa.array([3, 1] * 777)),
        coded(rows.take(pa.array([0, 1, 2, 3, 3] * 777)), index=pa.int16()),
    ):  # fmt: skip
        found, slowly = both(stream(host.header(), table))
        assert found is not None
        assert found == slowly
        assert found[1].rows.schema.equals(slowly[1].rows.schema)
        found[1].rows.validate(full=True)
        assert read(stream(host.header(), table)).rows.equals(found[1].rows)


@pytest.mark.skipif(reader() is None, reason="script/build-reader found no C compiler")
def test_what_is_not_plain_is_left_to_arrow(wire: ModuleType, host: Any) -> None:
    rows = table_of(wire.event(0))
    for name in BAD:
        assert both(BAD[name](host.header(), rows))[0] is None, name
    for change, _ in FAULTS.values():
        for table in (table_of(wire.event(0), wire.event(1, **change)), coded(table_of(wire.event(1, **change)))):
            assert both(stream(host.header(), table))[0] is None, change
    for table in (table_of(), pa.concat_tables([rows, rows]), coded(rows, "path")):
        assert both(stream(host.header(), table))[0] is None
    data = stream(host.header(), rows)
    for limits in ((0, 65_536, 2**26), (9, 100, 2**26)):
        assert lines.read_columns(data, *limits) is None
    assert lines.read_columns(stream(host.header(), coded(rows)), 9, 65_536, 1) is None


@pytest.mark.skipif(reader() is None, reason="script/build-reader found no C compiler")
@settings(max_examples=1_000, deadline=None)
@given(data=st.data(), form=st.sampled_from((table_of, lambda *events: coded(table_of(*events)))))
def test_what_is_read_without_arrow_is_what_arrow_reads(wire: ModuleType, data: st.DataObject, form: Any) -> None:
    header = {"kind": "batch"}
    body = bytearray(stream(header, form(*(wire.event(seq, access="read") for seq in range(3)))))
    # What a message says of itself stands before what it holds.
    heads = [place + 8 for place in range(0, len(body) - 8, 8) if body[place : place + 4] == b"\xff" * 4]
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(heads)) + data.draw(st.integers(0, 300))
        if place < len(body):
            body[place] = data.draw(st.one_of(st.integers(0, 255), st.sampled_from((0, 1, 2, 4, 8, 16, 255))))
    found, slowly = both(bytes(body))
    assert found == slowly


def test_the_header_is_checked_as_ever(wire: ModuleType, host: Any) -> None:
    rows = table_of(wire.event(0))
    assert refusal(stream(host.header(agent_id="agt_ffffffffffffffff"), rows)).code == "agent_mismatch"
    assert refusal(stream(b"{}", rows)).code == "bad_header"
    target = io.BytesIO()
    with pa.ipc.new_stream(target, rows.schema) as writer:
        writer.write_table(rows)
    assert "kaimon.batch" in (refusal(target.getvalue()).detail or "")


def test_text_that_is_not_utf8_is_refused(wire: ModuleType, host: Any) -> None:
    data = stream(host.header(), table_of(wire.event(0, path="/marked")))
    assert refusal(data.replace(b"/marked", b"/mark\xff\xfe")).code == "malformed_body"


def test_too_many_rows_are_too_large(wire: ModuleType, host: Any) -> None:
    rows = table_of(wire.event(0)).take(pa.array([0] * 250_001))
    assert refusal(stream(host.header(), rows)).code == "too_large"


def test_bad_rows_that_would_be_too_large_as_lines_are_too_large(wire: ModuleType, host: Any) -> None:
    rows = table_of(wire.event(0, path="\x01" * 2_000)).take(pa.array([0] * 20_000))
    assert refusal(stream(host.header(), rows)).code == "too_large"


@settings(max_examples=300, deadline=None)
@given(data=st.data(), form=st.sampled_from((table_of, lambda *events: coded(table_of(*events)))))
def test_a_stream_with_bytes_changed_is_read_or_refused(wire: ModuleType, data: st.DataObject, form: Any) -> None:
    header = wire.Host("acme", AGENT, "").header()
    body = bytearray(stream(header, form(*(wire.event(seq) for seq in range(3)))))
    for place in data.draw(st.lists(st.integers(0, len(body) - 1), min_size=1, max_size=4)):
        body[place] = data.draw(st.integers(0, 255))
    with suppress(Problem):
        assert read(bytes(body)).record.rows <= 3


def test_a_server_takes_both_forms(server: Any, wire: ModuleType, new_host: Callable[[], Any]) -> None:
    sender = new_host()
    events = sender.events(3)
    body = zstandard.compress(stream(sender.header(), table_of(*events)))
    answer = server.send(sender, body, **{"Content-Type": ARROW})
    assert answer.json() == {"accepted": 3, "rejected": 0, "duplicate": False, "errors": []}
    assert server.send(sender, sender.batch(2)).json()["accepted"] == 2
    segments = wire.segments(server.home, sender.tenant)
    assert [seq for segment in segments for seq in segment.events["seq"]] == [0, 1, 2, 3, 4]
    assert {str(segment.events["time"].dtype) for segment in segments} == {"Datetime(time_unit='us', time_zone='UTC')"}
