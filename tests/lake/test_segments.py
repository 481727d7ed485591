from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from types import ModuleType

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lake.checksum import RowsChecksum
from lake.columns import table_schema
from lake.schema import EVENTS
from lake.segments import (
    CODED_ROWS,
    BatchRecord,
    Rejected,
    Segment,
    SegmentError,
    encode_segment,
    parse_segment_key,
    read_segment,
    segment_key,
)

OLD_TYPES = {
    "batch": pa.int32(), "line": pa.int32(), "code": pa.string(), "detail": pa.string(), "raw": pa.binary(),
    **{field.name: field.type for field in table_schema(EVENTS)},
}  # fmt: skip


def test_a_segment_comes_back_as_it_was_encoded(staging: ModuleType) -> None:
    batches = [staging.batch(1, bad=(b"\xff\x00", b"{")), staging.batch(2, rows=0), staging.batch(3)]
    parts = [one.part() for one in batches]
    data = encode_segment("n1", 7, "acme", parts)
    segment = read_segment(data)
    assert (segment.tenant, segment.node, segment.seq) == ("acme", "n1", 7)
    assert segment.digest == hashlib.sha256(data).hexdigest()
    assert segment.batches == [record for record, _, _ in parts]
    assert segment.events.columns == ["batch", "line", *(column.name for column in EVENTS)]
    assert segment.events["batch"].to_list() == [0, 0, 0, 2, 2, 2]
    assert segment.events["seq"].to_list() == [1000, 1001, 1002, 3000, 3001, 3002]
    assert segment.events["batch_seq"].to_list() == [1, 1, 1, 3, 3, 3]
    assert segment.rejected.rows() == [(0, 5, "bad_line", "why", b"\xff\x00"), (0, 6, "bad_line", "why", b"{")]


def test_the_day_is_that_of_the_events_own_time(staging: ModuleType) -> None:
    times = [-1, 0, 86_399_999_999, 86_400_000_000]
    one = staging.Batch(1, tuple({"seq": index, "time": time} for index, time in enumerate(times)))
    days = read_segment(encode_segment("n1", 1, "acme", [one.part()])).events["event_day"]
    assert days.cast(pl.Int32).to_list() == [-1, 0, 0, 1]


def test_every_value_of_a_row_survives(staging: ModuleType) -> None:
    odd = {
        "seq": 2**63 - 1, "path": "/x/\\xff", "target_path": "/y", "access": "read", "mode": -1, "mode_before": 0o644,
        "flags": 2**31 - 1, "result": 13, "count": 9, "last_time": 5, "uid": 2**32 - 2, "login_uid": 0, "user": "u",
        "ppid": 1, "exe": "/bin/cat", "process_start": 4, "parent_process": "sh", "container_id": "c", "mount_ns": 3,
        "inode": -(2**63), "dev": 8,
    }  # fmt: skip
    one = staging.Batch(1, (odd,))
    events = read_segment(encode_segment("n1", 1, "acme", [one.part()])).events
    row = events.with_columns(pl.col(pl.Datetime).cast(pl.Int64)).row(0, named=True)
    assert {name: row[name] for name in one.lines()[0]} == one.lines()[0]


def test_a_record_that_does_not_agree_with_its_rows_is_refused(staging: ModuleType) -> None:
    record, rows, rejected = staging.batch(1).part()
    with pytest.raises(ValueError, match="3 rows"):
        encode_segment("n1", 1, "acme", [(replace(record, rows=2), rows, rejected)])
    with pytest.raises(ValueError, match="0 rejected"):
        encode_segment("n1", 1, "acme", [(replace(record, rejected=1), rows, rejected)])


def test_what_is_not_a_segment_is_refused(staging: ModuleType) -> None:
    data = encode_segment("n1", 1, "acme", [staging.batch(1).part()])
    other = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": [1]}), other)
    for bad in (b"", b"PAR1", data[:-9], data[: len(data) // 2], other.getvalue().to_pybytes()):
        with pytest.raises(SegmentError):
            read_segment(bad)
    with pytest.raises(SegmentError, match="version 3"):
        read_segment(data.replace(b'{"version":2', b'{"version":3', 1))


def test_what_all_rows_share_is_kept_beside_them_and_comes_back(staging: ModuleType) -> None:
    rows = tuple({"seq": seq, "user": "u", "result": None, "last_time": 5, "login_uid": None} for seq in range(4))
    parts = [
        staging.Batch(1, rows[:2]).part(),
        staging.Batch(2, rows[2:], load="3" * 8 + "-3333-3333-3333-333333333333").part(),
    ]
    data = encode_segment("n1", 1, "acme", parts)
    names = pq.ParquetFile(pa.BufferReader(data)).schema_arrow.names
    assert {"batch", "line", "time", "path", "seq"} == set(names)
    segment = read_segment(data)
    events, table = segment.events, segment.table()
    assert events["load_id"].to_list() == [record.load_id for record, _, _ in parts for _ in range(2)]
    assert events["user"].to_list() == ["u"] * 4
    assert events["result"].to_list() == [None] * 4
    assert events["last_time"].cast(pl.Int64).to_list() == [5] * 4
    assert events.schema == whole_segment(staging, parts).events.schema
    frame = pl.DataFrame(pl.from_arrow(table))
    assert frame.with_columns(pl.col(pl.Categorical).cast(pl.String)).equals(events.drop("event_day"))


def test_a_segment_of_the_first_form_is_still_read(staging: ModuleType) -> None:
    parts = [staging.batch(1).part(), staging.batch(2).part()]
    new, old = read_segment(encode_segment("n1", 1, "acme", parts)), whole_segment(staging, parts)
    assert old.absent == ()
    assert old.batches == new.batches
    assert old.events.equals(new.events)
    assert old.table().schema.types == new.table().schema.types
    assert old.table().to_pylist() == new.table().to_pylist()


def test_a_file_whose_columns_nothing_implies_is_refused(staging: ModuleType) -> None:
    data = encode_segment("n1", 1, "acme", [staging.batch(1).part()])
    told = data.index(b'"constants":{') + len(b'"constants":{')
    for was, lie in (
        (b'"pid":7', b'"pix":7'),
        (b'"pid":7', b'"seq":7'),
        (b'"pid":7', b'"pid":"'),
        (b'"cpu":0', b'"cpu":x'),
    ):
        at = data.index(was, told)
        with pytest.raises(SegmentError):
            read_segment(data[:at] + lie + data[at + len(was) :])


@pytest.mark.parametrize("forms", ["pp", "cc", "pc", "cp", "c", "ccc", "cpc"])
@pytest.mark.parametrize("bad", [(), (b"{",)])
def test_texts_may_come_as_dictionaries_and_the_rows_are_the_same(
    staging: ModuleType, forms: str, bad: tuple[bytes, ...]
) -> None:
    parts = []
    for number, _ in enumerate(forms, 1):
        made = [
            {"seq": seq, "path": f"/{(seq * number) % 5}", "user": ("u", None, "")[seq % 3], "process": "p" * number,
             "exe": "/bin/cat", "target_path": None if number < 2 else f"/{number}", "access": (None, "read")[seq % 2]}
            for seq in range(9)
        ]  # fmt: skip
        parts.append(staging.Batch(number, tuple(made), bad=bad if number == 1 else ()).part())
    given = [
        (record, coded(rows) if form == "c" else rows, rejected)
        for form, (record, rows, rejected) in zip(forms, parts, strict=True)
    ]
    data, plain = (encode_segment("n1", 1, "acme", one) for one in (given, parts))
    found, wanted = read_segment(data), read_segment(plain)
    assert found.constants == wanted.constants
    assert found.events.equals(wanted.events)
    assert found.rejected.equals(wanted.rejected)
    assert found.table().to_pylist() == wanted.table().to_pylist()
    assert checksum(found) == checksum(wanted)
    file = pq.ParquetFile(pa.BufferReader(data)).metadata.row_group(0)
    path = next(file.column(n) for n in range(file.num_columns) if file.column(n).path_in_schema == "path")
    assert "RLE_DICTIONARY" in path.encodings


def coded(rows: pa.Table) -> pa.Table:
    """Return rows whose texts are dictionaries."""
    columns = [column.dictionary_encode() if column.type == pa.string() else column for column in rows.columns]
    return pa.table(columns, schema=CODED_ROWS)


def checksum(segment: Segment) -> str:
    rows = segment.events.drop("batch", "line").to_arrow()
    made = RowsChecksum("events")
    made.add(
        rows.cast(
            pa.schema(
                [rows.schema.field(n).with_name(f.name).with_type(f.type) for n, f in enumerate(table_schema(EVENTS))]
            )
        )
    )
    return made.hexdigest()


def whole_segment(staging: ModuleType, parts: list[tuple[BatchRecord, pa.Table, list[Rejected]]]) -> Segment:
    """Return a segment as it was written at first: every column of every row in the file."""
    told = read_segment(encode_segment("n1", 1, "acme", parts)).events
    own = [pl.lit(None, pl.String).alias("code"), pl.lit(None, pl.String).alias("detail")]
    frame = told.with_columns(*own, pl.lit(None, pl.Binary).alias("raw"))
    names = ["batch", "line", "code", "detail", "raw", *(column.name for column in EVENTS)]
    head = {"version": 1, "tenant": "acme", "node": "n1", "seq": 1, "batches": [asdict(part[0]) for part in parts]}
    rows = frame.select(names).to_arrow().cast(pa.schema([(name, OLD_TYPES[name]) for name in names]))
    target = pa.BufferOutputStream()
    with pq.ParquetWriter(target, rows.schema, store_schema=False) as writer:
        writer.write_table(rows)
        writer.add_key_value_metadata({"kaimon.segment": json.dumps(head)})
    return read_segment(target.getvalue().to_pybytes())


@pytest.mark.parametrize(
    ("tenant", "node", "seq"),
    [("acme", "n1", 0), ("acme", "n1", -1), ("acme", "n1", 10**12), ("ACME", "n1", 1), ("acme", "../n", 1),
     ("acme", "lease", 1), ("a", "n1", 1), ("acme", "", 1)],
)  # fmt: skip
def test_a_name_that_is_not_a_segments_is_refused(tenant: str, node: str, seq: int) -> None:
    with pytest.raises(ValueError, match="not a segment"):
        segment_key(tenant, node, seq)


def test_keys_sort_as_their_numbers_do() -> None:
    keys = [segment_key("acme", "n1", seq) for seq in (1, 9, 10, 99, 100, 10**9)]
    assert keys == sorted(keys)
    assert [parse_segment_key(key)[2] for key in keys] == [1, 9, 10, 99, 100, 10**9]
    with pytest.raises(ValueError, match="not a segment"):
        parse_segment_key("acme/n1/1.parquet")
