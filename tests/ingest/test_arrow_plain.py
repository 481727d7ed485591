"""Plain Arrow bodies are read by compiled code, without Arrow: the same rows, or none."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import arrow, lines
from ingest.plain import reader
from tests.ingest.streams import AGENT, BAD, FAULTS, TEXTS, coded, pointed, read, stream, table_of

pytestmark = pytest.mark.skipif(reader() is None, reason="script/build-native found no C compiler")


@pytest.fixture
def host(wire: ModuleType) -> Any:
    return wire.Host("acme", AGENT, "")


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
