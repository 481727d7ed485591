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
from ingest.batch import ARROW, Arrived, Batch, Unread, read_batches
from ingest.settings import IngestSettings
from kaimon.base.problems import Problem
from lake.schema import EVENT_LINE
from tenancy.credentials import HostIdentity
from tests.ingest.streams import AGENT, BAD, FAULTS, coded, pointed, read, stream, table_of


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
