"""Rows in order, range after range: whatever the files, the ranges are what one sort of everything would give."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lake.encoding import encode
from lake.files import DataFile, put_file
from lake.frames import frame_schema, to_rows
from lake.ordering import ORDER, in_order
from lake.settings import LakeSettings

DAY = date(2026, 1, 1)
MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC)
KEYS = st.tuples(st.sampled_from(["/", "/a", "/a/b", "/a-b", "/é", "/\U0001f600", "/z" * 40]), st.integers(0, 9))


def rows(keys: list[tuple[str, int]], first: int) -> pl.DataFrame:
    """Events of these paths and seconds, numbered from `first`."""
    values = {pl.String: "x", pl.Date: DAY, pl.Datetime("us", "UTC"): MIDNIGHT}
    given_here = {
        "path": [path for path, _ in keys],
        "time": [MIDNIGHT + timedelta(seconds=second) for _, second in keys],
        "seq": list(range(first, first + len(keys))),
    }
    frame = pl.DataFrame(given_here)
    return frame.select(
        pl.col(name).cast(kind) if name in given_here else pl.lit(values.get(kind, 1)).cast(kind).alias(name)
        for name, kind in frame_schema("events").items()
    )


def put(frame: pl.DataFrame, settings: LakeSettings) -> DataFile:
    told = frame.height, frame["time"].min(), frame["time"].max()
    return put_file("acme", "events", DAY, encode([to_rows(frame, "events")], "events"), told, settings)  # type: ignore[arg-type]


@hypothesis_settings(max_examples=30, deadline=None)
@given(
    parts=st.lists(st.tuples(st.booleans(), st.lists(KEYS, min_size=1, max_size=25)), min_size=1, max_size=6),
    range_rows=st.integers(2, 60),
    step=st.integers(1, 6),
)
def test_the_ranges_are_the_sorted_day_and_none_is_larger_than_it_may_be(
    parts: list[tuple[bool, list[tuple[str, int]]]], range_rows: int, step: int
) -> None:
    with TemporaryDirectory() as home:
        settings, files, frames, ordered = LakeSettings(home=Path(home)), [], [], set()
        for number, (is_ordered, keys) in enumerate(parts):
            frame = rows(keys, number * 100)
            frames.append(frame)
            files.append(put(frame.sort(ORDER) if is_ordered else frame, settings))
            if is_ordered:
                ordered.add(files[-1].path)
        given_order = frozenset(ordered)
        ranges = list(
            in_order("acme", "events", files, settings, is_ordered=given_order, range_rows=range_rows, step=step)
        )
        whole = pl.concat(frames).sort(ORDER)
        assert pl.concat(ranges).equals(whole)
        runs = len(ordered) + -(-whole.height // range_rows) * 2 + len(parts)
        assert max(part.height for part in ranges) <= max(range_rows, step) + step * runs
        assert all(part.height for part in ranges)
        assert [path.name for path in Path(home).iterdir()] == ["lake"], "runs have no name and leave nothing"


def test_a_path_larger_than_a_range_is_cut_by_time(settings: LakeSettings) -> None:
    frame = rows([("/hot", second) for second in range(200)], 0)
    ranges = list(in_order("acme", "events", [put(frame, settings)], settings, range_rows=20, step=1))
    assert len(ranges) == 10
    assert {part.height for part in ranges} == {20}


def test_no_files_give_no_range(settings: LakeSettings) -> None:
    assert list(in_order("acme", "events", [], settings)) == []


def open_files() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_runs_are_closed_when_the_reader_stops_half_way(settings: LakeSettings) -> None:
    before = open_files()
    frame = rows([("/hot", second) for second in range(50)], 0)
    ranges = in_order("acme", "events", [put(frame, settings)], settings, range_rows=10, step=1)
    next(ranges)
    assert len(open_files()) > len(before)
    ranges.close()  # type: ignore[attr-defined]
    assert open_files() == before


@pytest.mark.parametrize("range_rows", [1_000, 10])
def test_rows_of_another_file_of_the_folder_are_not_read(settings: LakeSettings, range_rows: int) -> None:
    file = put(rows([("/a", second) for second in range(30)], 0), settings)
    put(rows([("/b", 1)], 500), settings)
    ranges = in_order("acme", "events", [file], settings, range_rows=range_rows, step=1)
    assert set(pl.concat(list(ranges))["path"]) == {"/a"}
