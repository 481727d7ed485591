"""Sealed files: whole, in order, and with statistics by which a look-up leaves the rest of them shut."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lake import sealed
from lake.commits import CommitConflictError, StaleLeaseError, Writer
from lake.encoding import encode
from lake.files import DataFile, put_file, read_files, scan_files
from lake.frames import frame_schema, to_rows
from lake.ordering import ORDER
from lake.reads import scan
from lake.sealed import SealedFiles, choose_encodings, seal_of
from lake.settings import LakeSettings

DAY = date(2026, 1, 1)
MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC)


def rows(count: int, first: int = 0) -> pl.DataFrame:
    values = {pl.String: "x", pl.Date: DAY, pl.Datetime("us", "UTC"): MIDNIGHT}
    numbers = range(first, first + count)
    told = {
        "path": [f"/srv/{number:06d}" for number in numbers],
        "time": [MIDNIGHT + timedelta(microseconds=number) for number in numbers],
        "seq": list(numbers),
        "target_path": [None if number % 2 else "/t" for number in numbers],
    }
    frame = pl.DataFrame(told)
    return frame.select(
        pl.col(name).cast(kind) if name in told else pl.lit(values.get(kind, 1)).cast(kind).alias(name)
        for name, kind in frame_schema("events").items()
    )


def seal(frame: pl.DataFrame, settings: LakeSettings, name: str = "s1", file_bytes: int = 1 << 20) -> list[DataFile]:
    target = SealedFiles("acme", "events", DAY, name, settings, file_bytes)
    target.add(to_rows(frame, "events"))
    return target.close()


def land(frame: pl.DataFrame, settings: LakeSettings, fence: int = 1) -> None:
    told = frame.height, frame["time"].min(), frame["time"].max()
    file = put_file("acme", "events", DAY, encode([to_rows(frame, "events")], "events"), told, settings)  # type: ignore[arg-type]
    Writer("acme", fence, settings).append_files("events", [file])


def there(settings: LakeSettings) -> pl.DataFrame:
    return scan("acme", "events", settings=settings).collect().sort(ORDER)


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "GROUP_ROWS", 100)
    monkeypatch.setattr(sealed, "PAGE_ROWS", 20)


def test_sealed_files_hold_the_rows_in_their_order_and_bear_the_seals_name(
    settings: LakeSettings, small_groups: None
) -> None:
    frame = rows(1_000)
    files = seal(frame, settings, file_bytes=10_000)
    assert len(files) > 1
    assert [seal_of(file) for file in files] == ["s1"] * len(files)
    assert scan_files("acme", "events", files, settings).collect().equals(frame)
    assert sum(file.rows for file in files) == 1_000
    times = scan_files("acme", "events", files[1:2], settings).collect()["time"]
    assert (files[1].first, files[1].last) == (times.min(), times.max())


def test_row_groups_and_pages_say_which_paths_they_hold(
    settings: LakeSettings, small_groups: None, tmp_path: Path
) -> None:
    [file] = seal(rows(1_000), settings)
    stored = pq.ParquetFile(tmp_path / "lake" / "acme" / "events" / file.path)
    paths = stored.schema_arrow.names.index("path")
    columns = [stored.metadata.row_group(group).column(paths) for group in range(stored.num_row_groups)]
    assert [column.statistics.min for column in columns] == [f"/srv/{number:06d}" for number in range(0, 1_000, 100)]
    assert all(column.has_column_index and column.has_offset_index for column in columns)
    sorting = [
        stored.schema_arrow.names[column.column_index] for column in stored.metadata.row_group(0).sorting_columns
    ]
    assert tuple(sorting) == ORDER


@pytest.mark.parametrize(
    ("values", "encoding"),
    [
        ([f"/var/lib/app/{number * 7919 % 100_003:032x}/state" for number in range(5_000)], "DELTA_BYTE_ARRAY"),
        ([f"/etc/{number % 3}" for number in range(5_000)], "DICTIONARY"),
        (list(range(5_000)), "DELTA_BINARY_PACKED"),
        ([number * 7919 % 3 * 10**15 for number in range(5_000)], "DICTIONARY"),
    ],
)
def test_each_column_is_encoded_as_its_own_values_ask_for(values: list[Any], encoding: str) -> None:
    assert choose_encodings(pa.table({"x": sorted(values) if isinstance(values[0], str) else values})) == {
        "x": encoding
    }


def test_files_that_are_swapped_in_take_the_place_of_the_old_ones_and_of_no_other(settings: LakeSettings) -> None:
    land(rows(50), settings)
    land(rows(50, 50), settings)
    old = read_files("acme", "events", DAY, settings)
    new = seal(rows(100), settings)
    land(rows(10, 500), settings)
    Writer("acme", 2, settings).swap_files("events", old, new)
    assert there(settings).equals(pl.concat([rows(100), rows(10, 500)]))
    assert len(read_files("acme", "events", DAY, settings)) == 2
    with pytest.raises(CommitConflictError, match="2 of 2 files are no longer part"):
        Writer("acme", 3, settings).swap_files("events", old, seal(rows(100), settings, "s2"))
    assert there(settings).height == 110


def test_a_stale_writer_swaps_nothing(settings: LakeSettings) -> None:
    land(rows(50), settings, fence=5)
    old = read_files("acme", "events", DAY, settings)
    with pytest.raises(StaleLeaseError):
        Writer("acme", 4, settings).swap_files("events", old, seal(rows(50), settings))
    assert read_files("acme", "events", DAY, settings) == old


def test_files_of_other_many_rows_are_never_swapped_in(settings: LakeSettings) -> None:
    land(rows(50), settings)
    old = read_files("acme", "events", DAY, settings)
    with pytest.raises(ValueError, match="49 rows cannot stand for 50"):
        Writer("acme", 1, settings).swap_files("events", old, seal(rows(49), settings))
    assert there(settings).equals(rows(50))
