"""A question is one thing however it is put: as an address, as an expression, as SQL that `kaimon query` takes."""

from __future__ import annotations

import io
import shlex
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dashboards.portal.activity import as_parquet, rows_of, table_of
from dashboards.portal.event import event_of
from dashboards.portal.histogram import histogram_of
from dashboards.portal.question import SHOWN, Question, cursor, literal, question_of
from kaimon.base.escape import escape
from kaimon.base.problems import Problem
from lake.query import run_query
from lake.settings import LakeSettings
from tests.dashboards.portal import filled

SCOPE: Any = type("Scope", (), {"tenant_id": "acme"})
END = filled.MIDNIGHT + timedelta(days=1)
HOSTILE = [
    "/srv/a'b",
    "/srv/'; DROP TABLE events; --",
    '/srv/"q"',
    "/srv/$(id)`id`",
    escape(b"/srv/\xff\n\\"),
    "/srv/\u202egnp.exe",
    "/srv/\u00a0\u200b%_ü",
    "/srv/'' || chr(65) || ''",
]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> LakeSettings:
    lake = LakeSettings(home=tmp_path_factory.mktemp("lake"))
    filled.fill(lake, "acme", HOSTILE)
    return lake


def day(**filters: str) -> Question:
    return Question(filled.MIDNIGHT, END, filters)


def rows(question: Question, most: int, lake: LakeSettings, after: str = "") -> list[dict[str, Any]]:
    return [{name: row[name] for name in SHOWN} for row in rows_of(SCOPE, question, most, lake, after).rows]


@pytest.mark.parametrize(("number", "path"), list(enumerate(HOSTILE)))
def test_the_sql_of_a_page_gives_its_rows_whatever_a_path_is_called(lake: LakeSettings, number: int, path: str) -> None:
    question = day(**{"file" if number % 2 else "path": path})
    found = rows(question, 50, lake)
    assert found, path
    sql = question.sql(50)
    assert sql.replace("\n", "").isprintable()
    assert run_query("acme", sql, question.first, question.last, lake).table.to_pylist() == found
    assert shlex.split(question.command("acme", sql))[-1] == sql


def test_the_sql_of_a_later_page_gives_that_page(lake: LakeSettings) -> None:
    question = day(process="=cmd")
    first = rows_of(SCOPE, question, 70, lake)
    sql = question.sql(70, first.cursor or "")
    asked = run_query("acme", sql, question.first, question.last, lake).table.to_pylist()
    assert asked == rows(question, 70, lake, first.cursor or "")
    assert len(asked) == 70


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40))
def test_a_literal_is_the_text_and_nothing_else(text: str) -> None:
    import duckdb

    if any(ord(letter) < 32 for letter in text):
        with pytest.raises(Problem, match="Not a name"):
            literal(text)
        return
    made = literal(text)
    assert made.isprintable()
    found = duckdb.sql(f"SELECT {made}").fetchall()
    assert found == [(text,)]


@pytest.mark.parametrize(
    "question",
    [
        day(path="/srv/a&b=c", pid="101"),
        Question(filled.MIDNIGHT + timedelta(hours=22), END + timedelta(hours=3), {"user": "ä"}),
        Question(filled.MIDNIGHT, filled.MIDNIGHT + timedelta(minutes=1)),
        Question(END - timedelta(minutes=1), END),
    ],
)
def test_an_address_is_its_question(question: Question) -> None:
    assert question_of(dict(parse_qsl(question.address())), filled.DAY) == question


@pytest.mark.parametrize(
    ("question", "counted"),
    [
        (day(), 2100),
        (day(hostname="host-1"), 720),
        (day(operation="delete"), 0),
        (day(process="vim"), 1050),
        (day(agent="agt_0", pid="100"), 690),
        (Question(filled.MIDNIGHT + timedelta(hours=12), filled.MIDNIGHT + timedelta(hours=14)), 180),
        (
            Question(
                filled.MIDNIGHT + timedelta(hours=12, minutes=5), filled.MIDNIGHT + timedelta(hours=12, minutes=6)
            ),
            2,
        ),
        (Question(filled.MIDNIGHT - timedelta(days=5), END), 2100),
    ],
)
def test_a_histogram_holds_as_many_events_as_fit_and_every_bar_leads_to_its_own(
    lake: LakeSettings, question: Question, counted: int
) -> None:
    told = histogram_of(SCOPE, question, END, lake)
    assert told.events == counted == len(rows(question, 5000, lake))
    assert told.counted_from is None
    for bar in told.bars:
        if bar.href is not None and bar.hour is not None:
            narrower = question_of(dict(parse_qsl(bar.href[1:])), filled.DAY)
            assert bar.hour.events == len(rows(narrower, 5000, lake))


def test_what_is_unknown_of_an_hour_is_in_its_bars_and_what_is_to_come_has_none(lake: LakeSettings) -> None:
    bars = histogram_of(SCOPE, day(), filled.MIDNIGHT + timedelta(hours=15, minutes=1), lake).bars
    assert [number for number, bar in enumerate(bars) if bar.hour and bar.hour.unknown] == [13]
    assert [bar.hour for bar in bars[16:]] == [None] * 8
    minutes = Question(filled.MIDNIGHT + timedelta(hours=13), filled.MIDNIGHT + timedelta(hours=14))
    assert all(bar.hour and bar.hour.unknown for bar in histogram_of(SCOPE, minutes, END, lake).bars)


def test_days_that_hold_too_much_are_not_counted_and_that_is_said(
    lake: LakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboards.portal.histogram.MOST_COUNTED", 100)
    told = histogram_of(SCOPE, day(process="vim"), END, lake)
    assert told.counted_from == END
    assert {bar.hour for bar in told.bars} == {None}


def test_a_file_holds_the_rows_of_its_question_and_reads_back(lake: LakeSettings) -> None:
    table = table_of(SCOPE, day(path="/srv/a'b"), lake)
    back = pq.read_table(io.BytesIO(as_parquet(table)))
    assert back.to_pylist() == rows(day(path="/srv/a'b"), 10_000, lake)


@pytest.mark.parametrize("first", [filled.MIDNIGHT, filled.MIDNIGHT - timedelta(days=9)])
def test_a_file_that_cannot_hold_all_holds_the_newest(
    lake: LakeSettings, monkeypatch: pytest.MonkeyPatch, first: datetime
) -> None:
    monkeypatch.setattr("dashboards.portal.activity.FILE_ROWS", 75)
    question = Question(first, END, {"process": "vim"})
    assert table_of(SCOPE, question, lake).to_pylist() == rows(question, 75, lake)


def test_a_row_is_found_by_its_name_with_every_field_and_its_hour(lake: LakeSettings, tmp_path: Path) -> None:
    path = HOSTILE[4]
    row = rows_of(SCOPE, day(file=path), 1, lake).rows[0]
    found = event_of(SCOPE, cursor(row), lake)
    assert found is not None
    assert {name: found.row[name] for name in SHOWN} == {name: row[name] for name in SHOWN}
    assert next(one.bytes for one in found.fields if one.name == "path") == b"/srv/\xff\n\\".hex(" ")
    assert found.known is not None
    assert (found.known["state"], found.known["captured"]) == ("complete", 60)
    assert event_of(SCOPE, cursor(row | {"seq": 10**6}), lake) is None
    assert event_of(SCOPE, cursor(row), LakeSettings(home=tmp_path)) is None
    assert pl.Series([one.name for one in found.fields]).is_unique().all()
