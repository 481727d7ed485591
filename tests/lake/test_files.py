from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pyarrow.compute as pc
import pytest

from lake.commits import Writer
from lake.encoding import encode
from lake.files import DataFile, put_file
from lake.frames import frame_schema, to_rows
from lake.reads import scan
from lake.settings import LakeSettings
from lake.tables import open_table

DAY = date(2026, 1, 1)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def rows(*microseconds: int) -> pl.DataFrame:
    """Events of noon and so many microseconds."""
    values = {pl.String: "x", pl.Date: DAY, pl.Datetime("us", "UTC"): NOON}
    frame = pl.DataFrame({"time": [NOON + timedelta(microseconds=after) for after in microseconds]})
    return frame.select(
        pl.col("time").cast(kind) if name == "time" else pl.lit(values.get(kind, 1)).cast(kind).alias(name)
        for name, kind in frame_schema("events").items()
    )


def put(frame: pl.DataFrame, settings: LakeSettings) -> DataFile:
    told = frame.height, frame["time"].min(), frame["time"].max()
    return put_file("acme", "events", DAY, encode([to_rows(frame, "events")], "events"), told, settings)  # type: ignore[arg-type]


def test_a_file_is_no_part_of_the_table_until_a_commit_names_it(settings: LakeSettings) -> None:
    writer = Writer("acme", 1, settings)
    writer.append("events", rows(1))
    file = put(rows(2, 3), settings)
    assert scan("acme", "events", settings=settings).collect().height == 1
    writer.append_files("events", [file], {"n1": 1}, {"n1": 0})
    there = scan("acme", "events", settings=settings).collect().sort("time")
    assert there.equals(rows(1, 2, 3))
    assert writer.versions("events", ["n1"]) == {"n1": 1}


@pytest.mark.parametrize("after", [0, 1, 999, 1_000, 1_001])
def test_a_row_at_the_edge_of_its_file_is_found_by_its_time(settings: LakeSettings, after: int) -> None:
    Writer("acme", 1, settings).append_files("events", [put(rows(0, 1, 999, 1_000, 1_001), settings)])
    handle = open_table("acme", "events", settings)
    assert handle is not None
    moment = NOON + timedelta(microseconds=after)
    found = handle.to_pyarrow_dataset().to_table(filter=pc.field("time") == moment)
    assert found.num_rows == 1
    assert scan("acme", "events", settings=settings).filter(pl.col("time") == moment).collect().height == 1
