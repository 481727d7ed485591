"""The checksum of rows in order."""

from __future__ import annotations

import hashlib
import json
import struct
from datetime import UTC, date, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.checksum import RowsChecksum
from lake.frames import frame_schema, to_rows
from lake.schema import TABLES

SEALED = datetime(2026, 1, 2, 2, tzinfo=UTC)
ROWS = st.lists(
    st.tuples(st.text(max_size=5), st.integers(-(2**63), 2**63 - 1), st.none() | st.text(max_size=3)), max_size=12
)


def events(rows: list[tuple[str, int, str | None]]) -> pl.DataFrame:
    values = {pl.String: "x", pl.Date: date(2026, 1, 1), pl.Datetime("us", "UTC"): SEALED}
    frame = pl.DataFrame(rows, schema={"path": pl.String, "inode": pl.Int64, "user": pl.String}, orient="row")
    return frame.select(
        name if name in frame.columns else pl.lit(values.get(kind, 1)).cast(kind).alias(name)
        for name, kind in frame_schema("events").items()
    )


def checksum(*parts: pl.DataFrame) -> str:
    told = RowsChecksum("events")
    for part in parts:
        told.add(to_rows(part, "events"))
    return told.hexdigest()


@settings(deadline=None, max_examples=50)
@given(ROWS, st.integers(0, 12), st.integers(0, 12))
def test_cuts_do_not_show(rows: list[tuple[str, int, str | None]], first: int, second: int) -> None:
    whole = events(rows)
    cut = whole[:first], whole[first : first + second], whole[first + second :]
    assert checksum(whole) == checksum(*cut) == checksum(pl.concat(cut, rechunk=False))


@settings(deadline=None, max_examples=50)
@given(ROWS, ROWS)
def test_other_rows_or_another_order_give_another(
    one: list[tuple[str, int, str | None]], other: list[tuple[str, int, str | None]]
) -> None:
    assert (checksum(events(one)) == checksum(events(other))) == (one == other)


def test_null_is_not_the_empty_text_nor_zero() -> None:
    assert checksum(events([("/a", 0, None)])) != checksum(events([("/a", 0, "")]))


def test_anyone_can_compute_it_from_the_description() -> None:
    rows = [("2026-01-01", "s1", 3), ("2026-01-02", "zwei", -1)]
    frame = pl.DataFrame(
        [(date.fromisoformat(day), seal, 5, events_, 1, 9, "c", SEALED) for day, seal, events_ in rows],
        schema=frame_schema("seals"),
        orient="row",
    )
    told = RowsChecksum("seals")
    told.add(to_rows(frame, "seals"))
    days = [date.fromisoformat(day).toordinal() - date(1970, 1, 1).toordinal() for day, _, _ in rows]
    micros = int(SEALED.timestamp()) * 1_000_000
    streams = {
        "event_day": (struct.pack("<2i", *days), b""),
        "seal": (b"s1zwei", struct.pack("<2q", 2, 4)),
        "rows": (struct.pack("<2q", 5, 5), b""),
        "events": (struct.pack("<2q", 3, -1), b""),
        "files": (struct.pack("<2q", 1, 1), b""),
        "bytes": (struct.pack("<2q", 9, 9), b""),
        "checksum": (b"cc", struct.pack("<2q", 1, 1)),
        "sealed_at": (struct.pack("<2q", micros, micros), b""),
    }
    assert list(streams) == TABLES["seals"].schema.names
    digests = [
        [name, [hashlib.sha256(stream).hexdigest() for stream in (*both, b"")]] for name, both in streams.items()
    ]
    assert told.hexdigest() == hashlib.sha256(json.dumps(["kaimon-rows-1", digests]).encode()).hexdigest()


def test_a_list_has_no_place_in_a_checksum() -> None:
    row = pl.DataFrame(schema=frame_schema("hosts"))
    with pytest.raises(TypeError, match="blind_spots"):
        RowsChecksum("hosts").add(to_rows(pl.concat([row, pl.DataFrame([one_host()], schema=row.schema)]), "hosts"))


def one_host() -> dict[str, object]:
    values = {pl.String: "x", pl.Datetime("us", "UTC"): SEALED}
    return {name: values.get(kind, ["x"]) for name, kind in frame_schema("hosts").items()}
