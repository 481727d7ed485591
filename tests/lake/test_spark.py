"""Spark's own Delta reader finds in our tables what is there: `script/bootstrap bench` brings both, else this skips."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from benchmarks.support.spark import JARS, SPARK
from lake.checksum import RowsChecksum
from lake.commits import Writer
from lake.encoding import encode
from lake.files import put_file, read_files
from lake.frames import frame_schema, to_rows
from lake.ordering import ORDER
from lake.reads import scan
from lake.schema import TABLES
from lake.sealed import SealedFiles
from lake.settings import LakeSettings
from lake.tables import table_place

DAYS = (date(2026, 1, 1), date(2026, 1, 2))


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    sql = pytest.importorskip("pyspark.sql", reason="Spark is not installed: script/bootstrap bench")
    if not JARS or shutil.which("java") is None:
        pytest.skip("Delta's jars or Java are not there: script/bootstrap bench")
    builder = sql.SparkSession.builder.master("local[2]")
    for name, value in SPARK.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    yield session
    session.stop()


def rows(day: date, count: int) -> pl.DataFrame:
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    values = {pl.String: "x", pl.Date: day, pl.Datetime("us", "UTC"): midnight}
    told = {
        "path": [f"/srv/{('ä', 'z', 'Z', '語')[number % 4]}/{number % 50:03d}" for number in range(count)],
        "time": [midnight + timedelta(microseconds=number * 7_919) for number in range(count)],
        "seq": list(range(count)),
        "target_path": [None if number % 3 else "/t" for number in range(count)],
        "result": [None if number % 5 else 13 for number in range(count)],
    }
    return pl.DataFrame(told).select(
        pl.col(name).cast(kind) if name in told else pl.lit(values.get(kind, 1)).cast(kind).alias(name)
        for name, kind in frame_schema("events").items()
    )


def land(frame: pl.DataFrame, day: date, settings: LakeSettings, fence: int) -> None:
    told: Any = frame.height, frame["time"].min(), frame["time"].max()
    file = put_file("acme", "events", day, encode([to_rows(frame, "events")], "events"), told, settings)
    Writer("acme", fence, settings).append_files("events", [file])


def checksum(table: pa.Table) -> str:
    told = RowsChecksum("events")
    told.add(table)
    return told.hexdigest()


# Spark's client leaves sockets to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_spark_counts_the_rows_that_we_count_and_sums_them_to_the_same_checksum(
    spark: Any, settings: LakeSettings
) -> None:
    for fence, day in enumerate(DAYS, 1):
        land(rows(day, 2_000), day, settings, fence)
    # The first day sealed: other encodings, other files, and the old ones still in the log.
    old = read_files("acme", "events", DAYS[0], settings)
    sealed = SealedFiles("acme", "events", DAYS[0], "s1", settings, 1 << 20)
    sealed.add(to_rows(rows(DAYS[0], 2_000).sort(ORDER), "events"))
    Writer("acme", 3, settings).swap_files("events", old, sealed.close())

    frame = spark.read.format("delta").load(table_place("acme", "events", settings))
    assert frame.count() == 4_000
    for day in DAYS:
        theirs = frame.where(f"event_day = DATE'{day}'").orderBy(*ORDER).toArrow()
        ours = scan("acme", "events", day, day, settings).collect().sort(ORDER)
        assert theirs.num_rows == ours.height == 2_000
        assert checksum(theirs.cast(TABLES["events"].schema)) == checksum(to_rows(ours, "events"))
