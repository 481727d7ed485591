"""A day's rows: pages that neither repeat nor skip a row, filters, and cells that no spreadsheet runs."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from dashboards.portal import activity
from dashboards.portal.activity import Rows, as_csv, rows_of
from lake.frames import frame_schema
from lake.settings import LakeSettings

DAY = date(2026, 3, 4)
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> pl.DataFrame:
    """Twenty rows of which many share their time, as rows of several CPUs do."""
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
    frame = pl.DataFrame(rows, schema=frame_schema("events"))
    monkeypatch.setattr(activity, "scan", lambda *_: frame.lazy())
    return frame


def read(query: dict[str, str], most: int) -> Rows:
    scope: Any = type("Scope", (), {"tenant_id": "acme"})
    return rows_of(scope, DAY, query, most, LakeSettings())


@pytest.mark.parametrize("most", [1, 3, 7, 20, 21])
def test_pages_together_hold_every_row_once_newest_first(events: pl.DataFrame, most: int) -> None:
    read_rows: list[dict[str, Any]] = []
    query: dict[str, str] = {}
    while True:
        page = read(query, most)
        read_rows += page.rows
        if page.cursor is None:
            break
        query = {"after": page.cursor}
    assert sorted(row["seq"] for row in read_rows) == list(range(20))
    times = [row["time"] for row in read_rows]
    assert times == sorted(times, reverse=True)


def test_filters_leave_exactly_what_fits(events: pl.DataFrame) -> None:
    assert [row["seq"] for row in read({"path": "/etc/"}, 100).rows] == [15, 10, 0, 5]
    assert {row["seq"] % 2 for row in read({"hostname": "host-1"}, 100).rows} == {1}
    assert read({"operation": "delete"}, 100).rows == []


@pytest.mark.parametrize("cursor", ["x", "1~2", "a~b~c~d~e"])
def test_what_is_no_cursor_is_refused(events: pl.DataFrame, cursor: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read({"after": cursor}, 10)


def test_no_cell_of_the_file_is_a_formula(events: pl.DataFrame) -> None:
    text = as_csv(read({}, 100))
    assert text.count("'=cmd") == 20
    assert ",=cmd" not in text
