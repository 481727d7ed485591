"""Runs of an external sort: of each run, a range reads those parts that touch it and no other."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from lake.runs import open_runs

ORDER = ("path", "seq")


def rows(numbers: range) -> pl.DataFrame:
    shuffled = pl.DataFrame({"seq": numbers}).sample(fraction=1, shuffle=True, seed=3)
    return shuffled.select(pl.format("/srv/{}", pl.col("seq").cast(pl.String).str.zfill(4)).alias("path"), "seq")


@pytest.mark.parametrize(
    ("lower", "upper"), [(None, None), (None, 130), (130, 170), (131, 132), (170, None), (200, 900)]
)
def test_a_range_reads_only_the_parts_that_touch_it(tmp_path: Path, lower: int | None, upper: int | None) -> None:
    def key(number: int | None) -> tuple[str, int] | None:
        return None if number is None else (f"/srv/{number:04d}", number)

    with open_runs(tmp_path / "home", ORDER, 10) as runs:
        for numbers in (range(0, 400, 2), range(1, 400, 2)):
            firsts = runs.add(rows(numbers))
            assert [seq for _, seq in firsts] == list(numbers)[::10]
        inner, edges = runs.between(key(lower), key(upper))
        first, end = lower or 0, 400 if upper is None else upper
        assert all(first <= seq < end for frame in inner for seq in frame["seq"])
        found = pl.concat([*inner, *edges])["seq"].to_list()
        assert set(range(first, min(end, 400))) <= set(found)
        assert len(found) == len(set(found))
        # A part of a run is ten rows: two at each edge of each run, at most, lie in the range only partly.
        assert sum(frame.height for frame in edges) <= 2 * 2 * 10
        assert not list((tmp_path / "home").iterdir()), "their file has no name"


def test_rows_of_one_key_are_found_in_every_part_that_has_them(tmp_path: Path) -> None:
    with open_runs(tmp_path, ORDER, 10) as runs:
        runs.add(pl.DataFrame({"path": ["/a"] * 5 + ["/b"] * 45 + ["/c"] * 5, "seq": [1] * 55}))
        inner, edges = runs.between(("/b", 1), ("/c", 1))
        assert pl.concat([*inner, *edges]).filter(pl.col("path") == "/b").height == 45
