from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lake.encoding import encode
from lake.frames import frame_schema, to_rows
from lake.schema import TABLES

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def rows(*paths: str) -> pl.DataFrame:
    """Events of these paths, one a second from noon."""
    values = {pl.String: "x", pl.Date: date(2026, 1, 1), pl.Datetime("us", "UTC"): NOON}
    frame = pl.DataFrame({"path": paths, "time": [NOON + timedelta(seconds=each) for each in range(len(paths))]})
    return frame.select(
        pl.col(name).cast(kind) if name in frame.columns else pl.lit(values.get(kind, 1)).cast(kind).alias(name)
        for name, kind in frame_schema("events").items()
    )


def as_staged(frame: pl.DataFrame) -> pa.Table:
    """The rows with their texts as dictionaries, and a column that the table does not have."""
    plain = to_rows(frame, "events")
    texts = {name for name, kind in frame.schema.items() if kind == pl.String}
    columns = [
        plain.column(name).dictionary_encode() if name in texts else plain.column(name) for name in plain.column_names
    ]
    return pa.table([*columns, pa.nulls(plain.num_rows)], [*plain.column_names, "line"])


def test_texts_come_back_whether_they_were_staged_as_dictionaries_or_not() -> None:
    frame = rows("/a", "/b", "/a", "/c")
    for part in (as_staged, lambda given: to_rows(given, "events")):
        data = encode([part(frame[:3]), part(frame[:0]), part(frame[3:])], "events")
        assert pl.read_parquet(data).equals(frame.drop("event_day"))


def test_small_parts_share_a_row_group_and_a_large_one_has_its_own() -> None:
    many = rows(*["/many"] * 250_000)
    file = pq.ParquetFile(pa.BufferReader(encode([*[as_staged(rows("/a", "/b"))] * 5, as_staged(many)], "events")))
    assert [file.metadata.row_group(each).num_rows for each in range(file.num_row_groups)] == [10, 250_000]


def test_rows_that_are_not_the_tables_become_no_file() -> None:
    good = to_rows(rows("/a"), "events")
    with pytest.raises(ValueError, match=r"without \['path'\]"):
        encode([good.drop_columns(["path"])], "events")
    with pytest.raises(ValueError, match="path is int64, not a text"):
        encode([good.set_column(good.column_names.index("path"), "path", pa.array([1]))], "events")
    with pytest.raises(ValueError, match="uid is int32, not int64"):
        encode([good.set_column(good.column_names.index("uid"), "uid", pa.array([1], pa.int32()))], "events")
    for field in TABLES["events"].schema:
        if not field.nullable and field.name != "event_day":
            holed = good.set_column(good.column_names.index(field.name), field.name, pa.nulls(1, field.type))
            with pytest.raises(ValueError, match=f"{field.name} is null"):
                encode([holed], "events")
