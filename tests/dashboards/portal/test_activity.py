"""A day's rows: pages that neither repeat nor skip a row, filters, and cells that no spreadsheet runs."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from dashboards.portal.activity import Rows, as_csv, rows_of
from dashboards.portal.question import Question
from lake.commits import Writer
from lake.encoding import encode
from lake.files import put_file
from lake.frames import frame_schema, to_rows
from lake.ordering import ORDER
from lake.sealed import SealedFiles
from lake.settings import LakeSettings

DAY = date(2026, 3, 4)
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


@pytest.fixture
def lake(tmp_path: Path) -> LakeSettings:
    """Twenty rows in a real table, of which many share their time, as rows of several CPUs do."""
    rows: list[dict[str, Any]] = [
        {
            "time": NOON + timedelta(microseconds=number // 6),
            "agent_id": f"agt_{number % 2}",
            "load_id": "load",
            "cpu": number % 3,
            "seq": number,
            "hostname": f"host-{number % 2}",
            "operation": "write",
            "path": "/etc/shadow" if number % 5 == 0 else f"/srv/{number}",
            "process": "=cmd|' /C calc'!A0",
        }
        for number in range(20)
    ]
    lake = LakeSettings(home=tmp_path)
    write(DAY, pl.DataFrame(rows), lake, seal=False)
    return lake


def read(query: dict[str, str], most: int, lake: LakeSettings) -> Rows:
    scope: Any = type("Scope", (), {"tenant_id": "acme"})
    filters = {name: value for name, value in query.items() if name != "after"}
    return rows_of(scope, days(0, filters), most, lake, query.get("after", ""))


def days(back: int, filters: dict[str, str] | None = None) -> Question:
    """Ask for `DAY` and so many days before it."""
    midnight = datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC)
    return Question(midnight - timedelta(days=back), midnight + timedelta(days=1), filters or {})


@pytest.mark.parametrize("most", [1, 3, 7, 20, 21])
def test_pages_together_hold_every_row_once_newest_first(lake: LakeSettings, most: int) -> None:
    read_rows: list[dict[str, Any]] = []
    query: dict[str, str] = {}
    while True:
        page = read(query, most, lake)
        read_rows += page.rows
        if page.cursor is None:
            break
        query = {"after": page.cursor}
    assert sorted(row["seq"] for row in read_rows) == list(range(20))
    times = [row["time"] for row in read_rows]
    assert times == sorted(times, reverse=True)


def test_filters_leave_exactly_what_fits(lake: LakeSettings) -> None:
    assert [row["seq"] for row in read({"path": "/etc/"}, 100, lake).rows] == [15, 10, 0, 5]
    assert {row["seq"] % 2 for row in read({"hostname": "host-1"}, 100, lake).rows} == {1}
    assert read({"operation": "delete"}, 100, lake).rows == []


@pytest.mark.parametrize("cursor", ["x", "1~2", "a~b~c~d~e", f"{10**30}~b~c~1~2"])
def test_what_is_no_cursor_is_refused(lake: LakeSettings, cursor: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read({"after": cursor}, 10, lake)


def test_no_cell_of_the_file_is_a_formula(lake: LakeSettings) -> None:
    text = as_csv(read({}, 100, lake).rows)
    assert text.count("'=cmd") == 20
    assert ",=cmd" not in text


def write(day: date, told: pl.DataFrame, lake: LakeSettings, *, seal: bool) -> None:
    """Put rows into a real table, landed or sealed; columns that are not told hold something."""
    values = {pl.String: "x", pl.Date: day, pl.Datetime("us", "UTC"): NOON}
    frame = told.select(
        pl.col(name).cast(kind) if name in told.columns else pl.lit(values.get(kind, 1)).cast(kind).alias(name)
        for name, kind in frame_schema("events").items()
    )
    if seal:
        target = SealedFiles("acme", "events", day, f"s{day:%d}", lake)
        target.add(to_rows(frame.sort(ORDER), "events"))
        files = target.close()
    else:
        span: Any = (frame.height, frame["time"].min(), frame["time"].max())
        files = [put_file("acme", "events", day, encode([to_rows(frame, "events")], "events"), span, lake)]
    Writer("acme", 1, lake).append_files("events", files)


def put(day: date, numbers: range, lake: LakeSettings, *, seal: bool) -> None:
    """Put a day's rows into a real table; every third shares its time with the one before, paths run against time."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    told = pl.DataFrame(
        {
            "time": [start + timedelta(seconds=number - number % 3 // 2) for number in numbers],
            "seq": list(numbers),
            "path": [f"/srv/{999 - number}" for number in numbers],
        }
    )
    write(day, told, lake, seal=seal)


@pytest.mark.parametrize("most", [7, 30, 100])
def test_pages_over_days_hold_every_row_of_them_once_newest_first(tmp_path: Path, most: int) -> None:
    lake = LakeSettings(home=tmp_path)
    put(DAY - timedelta(days=4), range(5), lake, seal=True)
    put(DAY - timedelta(days=3), range(40), lake, seal=True)
    put(DAY - timedelta(days=1), range(30), lake, seal=False)
    put(DAY, range(20), lake, seal=False)
    scope: Any = type("Scope", (), {"tenant_id": "acme"})
    read_rows: list[dict[str, Any]] = []
    query: dict[str, str] = {}
    while True:
        page = rows_of(scope, days(3), most, lake, query.get("after", ""))
        assert len(page.rows) <= most
        read_rows += page.rows
        if page.cursor is None:
            break
        query = {"after": page.cursor}
    told = [(row["time"].date(), row["seq"]) for row in read_rows]
    wanted = [(DAY - timedelta(days=back), seq) for back, rows in ((0, 20), (1, 30), (3, 40)) for seq in range(rows)]
    assert sorted(told) == sorted(wanted)
    times = [row["time"] for row in read_rows]
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize("back", [-1, 31])
def test_a_span_that_is_none_or_too_long_is_refused(back: int) -> None:
    with pytest.raises(ValueError, match="at most 31 days"):
        days(back)
