"""The compiled writer of segments: whatever rows it is given, its file holds what Parquet's own writer's would."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake import segments
from lake.schema import EVENTS
from lake.segment_writer import writer
from lake.segments import CODED_ROWS, ROWS, BatchRecord, Rejected, encode_segment, read_segment

pytestmark = pytest.mark.skipif(writer() is None, reason="script/build-native found no C compiler")
ROOT = Path(__file__).parents[2]
Part = tuple[BatchRecord, pa.Table, list[Rejected]]
EDGES = {32: (0, 1, -1, 2**31 - 1, -(2**31)), 64: (0, 1, -1, 2**63 - 1, -(2**63), 2**32)}
# Times are a calendar's, since days are made of them.
TIMES = (0, 1, 86_399_999_999, -1, 1_700_000_000_000_000, -62_135_596_800_000_000, 253_402_300_799_999_999)


def values_of(kind: pa.DataType) -> st.SearchStrategy[Any]:
    if pa.types.is_string(kind):
        return st.one_of(st.sampled_from(["", "a", "b", "/srv/app/x"]), st.text(max_size=40))
    if pa.types.is_timestamp(kind):
        return st.sampled_from(TIMES) | st.integers(0, 2**50)
    if pa.types.is_date(kind):
        return st.just(0)
    bits: int = kind.bit_width
    return st.sampled_from(EDGES[bits]) | st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) | st.integers(0, 300)


@st.composite
def columns(draw: st.DrawFn, field: pa.Field[Any], height: int) -> pa.Array[Any]:
    """A column that varies, or stays, or runs for a while, with nulls where there may be some."""
    few = draw(st.lists(values_of(field.type), min_size=1, max_size=draw(st.sampled_from([1, 2, 40]))))
    if field.nullable:
        few += [None] * draw(st.integers(0, 2))
    places = draw(st.lists(st.tuples(st.integers(0, len(few) - 1), st.sampled_from([1, 1, 3, 30])), min_size=1))
    values = [few[place] for place, times in places for _ in range(times)]
    made: pa.Array[Any] = pa.array([values[row % len(values)] for row in range(height)], field.type)
    return made


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """Rows as a segment takes them: texts as they are or as dictionaries, perhaps a part of more, or in pieces."""
    height = draw(st.sampled_from([1, 2, 7, 8, 9, 31, 33, 128, 129, 130, 300]))
    rows = pa.table([draw(columns(field, height)) for field in ROWS], schema=ROWS)
    if draw(st.booleans()):
        made: list[Any] = [
            column.dictionary_encode() if pa.types.is_string(field.type) else column
            for field, column in zip(ROWS, rows.columns, strict=True)
        ]
        rows = pa.table(made, schema=CODED_ROWS)
    if draw(st.booleans()):
        rows = rows.slice(draw(st.integers(0, height - 1)))
    if draw(st.booleans()) and rows.num_rows > 1:
        cut = draw(st.integers(1, rows.num_rows - 1))
        rows = pa.Table.from_batches([*rows.slice(0, cut).to_batches(), *rows.slice(cut).to_batches()])
    return rows


def parts_of(staging: ModuleType, given: list[pa.Table]) -> list[Part]:
    return [
        (staging.Batch(number, overrides={"rows": rows.num_rows}).part()[0], rows, [])
        for number, rows in enumerate(given, 1)
    ]


def both(monkeypatch: pytest.MonkeyPatch, parts: list[Part]) -> tuple[bytes, bytes]:
    """Return the segment by the compiled writer and by Parquet's own."""
    data = encode_segment("n1", 1, "acme", parts)
    with monkeypatch.context() as without:
        without.setattr(segments, "writer", lambda: None)
        return data, encode_segment("n1", 1, "acme", parts)


def assert_same(data: bytes, other: bytes) -> None:
    assert pq.ParquetFile(pa.BufferReader(data)).metadata.created_by == "kaimon"
    assert pq.ParquetFile(pa.BufferReader(other)).metadata.created_by != "kaimon"
    found, wanted = read_segment(data), read_segment(other)
    assert (found.constants, found.absent, found.batches) == (wanted.constants, wanted.absent, wanted.batches)
    assert found.table().to_pylist() == wanted.table().to_pylist()
    there = [name for name in found.events.columns if name != "event_day"]
    assert found.events.select(there).equals(wanted.events.select(there))
    file = pq.ParquetFile(pa.BufferReader(data))
    assert file.schema_arrow.types == pq.ParquetFile(pa.BufferReader(other)).schema_arrow.types


@settings(deadline=None, max_examples=60)
@given(rows=st.lists(tables(), min_size=1, max_size=4))
def test_the_compiled_writer_says_what_parquets_own_says(staging: ModuleType, rows: list[pa.Table]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        assert_same(*both(patch, parts_of(staging, rows)))


def wide(staging: ModuleType, height: int, **columns: Any) -> Part:
    made = tuple({"seq": seq} | {name: value(seq) for name, value in columns.items()} for seq in range(height))
    one: Part = staging.Batch(1, made).part()
    return one


def test_numbers_of_which_too_many_differ_for_a_dictionary_are_differences(
    staging: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = wide(staging, 9_000, uid=lambda seq: seq % 4_096, gid=lambda seq: seq * 2**40 % 2**62, mode=lambda seq: seq)
    data, other = both(monkeypatch, [part])
    assert_same(data, other)
    group = pq.ParquetFile(pa.BufferReader(data)).metadata.row_group(0)
    chunks = {group.column(place).path_in_schema: group.column(place) for place in range(group.num_columns)}
    assert "RLE_DICTIONARY" in chunks["uid"].encodings
    assert "DELTA_BINARY_PACKED" in chunks["gid"].encodings
    assert "DELTA_BINARY_PACKED" in chunks["mode"].encodings


def test_texts_of_which_all_differ_are_each_there(staging: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    part = wide(staging, 20_000, path=lambda seq: f"/{seq * 7919:x}/{'é' * (seq % 9)}", user=lambda seq: str(seq % 129))
    data, other = both(monkeypatch, [part])
    assert_same(data, other)
    group = pq.ParquetFile(pa.BufferReader(data)).metadata.row_group(0)
    chunks = {group.column(place).path_in_schema: group.column(place) for place in range(group.num_columns)}
    assert (chunks["path"].compression, chunks["user"].compression) == ("ZSTD", "UNCOMPRESSED")
    assert chunks["path"].total_compressed_size < chunks["path"].total_uncompressed_size


def test_thousands_of_batches_are_told_apart(staging: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    one = staging.batch(1, rows=1).part()
    none = staging.batch(2, rows=0).part()
    data, other = both(monkeypatch, [one, none] * 5_000)
    assert_same(data, other)
    assert read_segment(data).table(["batch"])["batch"].to_pylist() == list(range(0, 10_000, 2))


def test_any_reader_of_parquet_reads_it(staging: ModuleType, tmp_path: Path) -> None:
    import duckdb

    part = wide(
        staging, 700, path=lambda seq: f"/srv/{seq % 300}/a", user=lambda seq: (None, "u")[seq % 2],
        last_time=lambda seq: None if seq % 3 else 10**15 + seq, result=lambda seq: (None, 0, 13)[seq % 3],
    )  # fmt: skip
    file = tmp_path / "segment.parquet"
    file.write_bytes(encode_segment("n1", 1, "acme", [part]))
    names = [name for name in pq.read_schema(file).names if name in {column.name for column in EVENTS}]
    wanted = pl.DataFrame(pl.from_arrow(part[1])).select(names)
    with duckdb.connect() as connection:
        relation = connection.sql(f"SELECT {', '.join(names)} FROM read_parquet('{file}')")
        assert relation is not None
        by_duckdb = pl.DataFrame(pl.from_arrow(relation.to_arrow_table()))
    for found in (pl.read_parquet(file), by_duckdb):
        assert found.select(names).cast(wanted.schema).equals(wanted)


def test_rows_that_are_not_as_many_as_the_batches_say_are_refused(staging: ModuleType) -> None:
    compiled = writer()
    assert compiled is not None
    with pytest.raises(ValueError, match="as many as the batches say"):
        compiled.write([staging.batch(1).part()[1]], [2], b"key", lambda _: b"{}")
