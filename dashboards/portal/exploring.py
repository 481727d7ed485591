"""Activity: a question's histogram, its rows page by page, one row with all that is known of it, and files of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from starlette.responses import Response

from dashboards.portal.activity import FILE_ROWS, PAGE_ROWS, as_csv, as_parquet, rows_of, table_of
from dashboards.portal.api.call import Turns
from dashboards.portal.call import Call, Route
from dashboards.portal.event import event_of
from dashboards.portal.histogram import Histogram, histogram_of
from dashboards.portal.question import Question, cursor, question_of
from dashboards.reports.charts import events_by_time
from kaimon.base.problems import Problem

_FILES: Final = Turns(1)
"""One file at a time: each is a query, which may take as much memory as one may."""
_UNITS: Final = ((86_400, "day"), (3_600, "hour"), (300, "five minutes"), (60, "minute"), (1, "second"))


def activity(call: Call) -> Response:
    """Show events of a range, filtered."""
    question, after = _asked(call), call.query.get("after", "")
    found = rows_of(call.scope, question, PAGE_ROWS, call.lake, after)
    told = histogram_of(call.scope, question, call.now, call.lake)
    sql = question.sql(PAGE_ROWS, after)
    return call.page(
        "activity.html",
        question=question,
        found=found,
        names=[cursor(row) for row in found.rows],
        told=told,
        unit=dict(_UNITS)[int(told.width.total_seconds())],
        chart=events_by_time(told.bars, _words(told)),
        same=question.address(),
        more=None if found.cursor is None else question.address(after=found.cursor),
        sql=sql,
        command=question.command(call.scope.tenant_id, sql),
        most=min(FILE_ROWS, call.lake.query_row_limit),
    )


def activity_csv(call: Call) -> Response:
    """Hand out a question's newest rows as CSV."""
    with _FILES.one():
        text = as_csv(table_of(call.scope, _asked(call), call.lake).to_pylist())
    return _file(text.encode(), "text/csv", "csv")


def activity_parquet(call: Call) -> Response:
    """Hand out the same rows as Parquet."""
    with _FILES.one():
        data = as_parquet(table_of(call.scope, _asked(call), call.lake))
    return _file(data, "application/vnd.apache.parquet", "parquet")


def event(call: Call) -> Response:
    """Show one event.

    Raises:
        Problem: 404, the tenant has no such event.
    """
    name = call.query.get("id", "")
    found = event_of(call.scope, name, call.lake) if name else None
    if found is None:
        raise Problem(404, "not_found", "Not found")
    hour = {"first": found.hour, "last": found.hour + timedelta(hours=1)}
    row = found.row
    links = {
        "Same path": {"file": row["path"]},
        "Same process": {"agent": row["agent_id"], "process": row["process"], "pid": str(row["pid"])},
        "Same host": {"agent": row["agent_id"]},
    }
    if row["target_path"] is not None:
        links["Where it led"] = {"file": row["target_path"]}
    whole = found.hour.replace(hour=0)
    day = {"first": whole, "last": whole + timedelta(days=1)}
    return call.page(
        "event.html",
        found=found,
        links={words: Question(**day, filters=chosen).address() for words, chosen in links.items()},
        around=Question(**hour, filters=links["Same host"]).address(),
    )


def _asked(call: Call) -> Question:
    return question_of(call.query, call.now.date())


def _words(told: Histogram) -> str:
    unknown = sum(1 for bar in told.bars if bar.hour and bar.hour.unknown)
    return f"File events by time: {told.events:,} in all; {unknown} of {len(told.bars)} bars with unknown parts"


def _file(data: bytes, media_type: str, ending: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="activity.{ending}"'}
    return Response(data, media_type=media_type, headers=headers)


ROUTES: Final = (
    Route("GET", "activity", "member", activity),
    Route("GET", "activity.csv", "member", activity_csv),
    Route("GET", "activity.parquet", "member", activity_parquet),
    Route("GET", "activity/event", "member", event),
)
