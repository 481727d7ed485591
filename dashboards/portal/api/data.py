"""Routes of a tenant's data: events within a query's limits, hours, findings, quality, summaries and their facts."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Final

import polars as pl
from fastapi import Query

from dashboards.portal import queries
from dashboards.portal.api import models
from dashboards.portal.api.call import (
    ApiRoute,
    Asked,
    Cursor,
    Limit,
    bad_cursor,
    day_or_today,
    moment_in_range,
    not_found,
    page_of,
    read_cursor,
    write_cursor,
)
from dashboards.portal.question import literal
from dashboards.portal.reports import recipients_of
from kaimon.base.problems import Problem
from lake.query import QueryError, run_query
from lake.reads import scan
from tenancy import days
from tenancy.schedules import schedule_of

LONGEST: Final = timedelta(days=31)
"""The widest range that one question about events may have."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_COLUMNS: Final = tuple(models.Event.model_fields)
_KEY: Final = ("agent_id", "load_id", "cpu", "seq")
_RANKS: Final = {"critical": 0, "high": 1, "medium": 2, "low": 3}
_PERIOD: Final = re.compile(r"\d{4}-(\d{2}-\d{2}|W\d{2})")
_LOST: Final = ("lost_ring", "lost_scratch", "lost_shed", "lost_refused", "lost_evicted", "unaccounted")

_Words = Annotated[str | None, Query(max_length=4096)]
_DayQuery = Annotated[date | None, Query(description="A UTC day; today if not given.")]


def events(  # noqa: PLR0917 - each is a parameter of the address
    call: Asked,
    from_: Annotated[datetime | None, Query(alias="from", description="24 h before `to` if not given.")] = None,
    to: Annotated[datetime | None, Query(description="Now if not given.")] = None,
    hostname: _Words = None,
    operation: _Words = None,
    path: Annotated[str | None, Query(max_length=4096, description="How the path begins.")] = None,
    process: _Words = None,
    user: _Words = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> models.Events:
    """List events of a range, newest first: at most 31 days, and within the limits of a query."""
    exact = {"hostname": hostname, "operation": operation, "process": process, "user": user}
    asked = ["events", from_, to, path, *exact.values()]
    conditions = [f'"{name}" = {literal(value)}' for name, value in exact.items() if value is not None]
    if path is not None:
        conditions.append(f"starts_with(path, {literal(path)})")
    if cursor is None:
        last = call.now if to is None else moment_in_range(to)
        first = last - timedelta(days=1) if from_ is None else moment_in_range(from_)
    else:
        first, last, older = _after(read_cursor(asked, cursor, 7))
        conditions.append(older)
    if not timedelta(0) < last - first <= LONGEST:
        raise Problem(400, "bad_range", "Not a range", f"Want `from` before `to`, at most {LONGEST.days} days apart.")
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    order = "ORDER BY time DESC, agent_id, load_id, cpu, seq"
    columns = ", ".join(f'"{name}"' for name in _COLUMNS)
    # Everything in it is ours, a number, or a literal that `literal` closed; and it runs where it can do nothing else.
    sql = f"SELECT {columns} FROM events {where} {order} LIMIT {limit + 1}"  # noqa: S608
    try:
        with call.turns.one():
            found = run_query(call.scope.tenant_id, sql, first, last, call.lake)
    except QueryError as error:
        raise Problem(422, "query_limit", "The query was given up", str(error)) from error
    rows: list[dict[str, Any]] = found.table.to_pylist()
    for row in rows:
        row["time"] = row["time"].replace(tzinfo=UTC) if row["time"].tzinfo is None else row["time"].astimezone(UTC)
    following = None
    if len(rows) > limit or found.truncated:
        rows = rows[:limit]
        newest = rows[-1]
        span = [_micros(first), _micros(last), _micros(newest["time"])]
        following = write_cursor(asked, [*span, *(newest[name] for name in _KEY)])
    items = [models.Event.model_validate(row) for row in rows]
    return models.Events(items=items, next=following, coverage=models.Coverage.model_validate(found.coverage))


def histogram(call: Asked, day: _DayQuery = None) -> models.Histogram:
    """Show events an hour of a UTC day, null where nothing is known."""
    found = queries.day_of(call.scope, day_or_today(day, call.now), call.now, call.lake)
    return models.Histogram(
        day=found.day,
        hours=[None if hour is None else models.Hour.model_validate(hour) for hour in found.hours],
        events=found.events,
        coverage=models.Coverage.model_validate(found.known),
    )


def findings(
    call: Asked, day: _DayQuery = None, cursor: Cursor = None, limit: Limit = 100
) -> models.Page[models.Finding]:
    """List what the rules saw on a UTC day, the gravest first."""
    wanted = day_or_today(day, call.now)
    grave = pl.col("severity").replace_strict(_RANKS, default=len(_RANKS), return_dtype=pl.Int32)
    frame = scan(call.scope.tenant_id, "findings", wanted, wanted, call.lake).with_columns(grave.alias("grave"))
    asked = ["findings", day]
    if cursor is not None:
        rank, name = read_cursor(asked, cursor, 2)
        if not isinstance(rank, int) or not isinstance(name, str):
            raise bad_cursor()
        same = (pl.col("grave") == rank) & (pl.col("finding_id") > name)
        frame = frame.filter((pl.col("grave") > rank) | same)
    rows = frame.sort("grave", "finding_id").head(limit + 1).collect().to_dicts()
    more = write_cursor(asked, [rows[limit - 1]["grave"], rows[limit - 1]["finding_id"]]) if len(rows) > limit else None
    return models.Page(items=[models.Finding.model_validate(row) for row in rows[:limit]], next=more)


def quality(call: Asked, day: _DayQuery = None) -> models.Quality:
    """Show what a UTC day's data is worth: its checks, the ledger's word, each host's hours."""
    wanted = day_or_today(day, call.now)
    state = pl.col("state")
    names = ("complete", "partial", "unknown", "not_monitored")
    rows = (
        scan(call.scope.tenant_id, "completeness", wanted, wanted, call.lake)
        .group_by("agent_id")
        .agg(
            pl.col("hostname").last(),
            pl.col("captured").sum(),
            pl.sum_horizontal(*_LOST).sum().alias("lost"),
            **{name: (state == name).sum() for name in names},
            at=pl.col("hour").dt.hour(),
            verdicts=state,
        )
        .sort("agent_id")
        .collect()
    )
    found = queries.day_of(call.scope, wanted, call.now, call.lake)
    checked = days.get(call.db, call.scope.tenant_id, wanted)
    return models.Quality(
        day=wanted,
        checks=None if checked is None else checked.state,
        sealed=checked is not None and 0 < checked.version <= checked.sealed_version,
        coverage=models.Coverage.model_validate(found.known),
        hosts=[models.HostQuality.model_validate(row | {"hours": _grid(row)}) for row in rows.to_dicts()],
    )


def _grid(row: dict[str, Any]) -> list[str | None]:
    verdicts = dict(zip(row["at"], row["verdicts"], strict=True))
    return [verdicts.get(hour) for hour in range(24)]


def reports(call: Asked, cursor: Cursor = None, limit: Limit = 100) -> models.Page[models.Report]:
    """List summaries, the newest period first, each by its newest revision."""
    newest = (
        scan(call.scope.tenant_id, "summaries", settings=call.lake)
        .drop("document")
        .sort("revision")
        .unique(["period_start", "period"], keep="last")
        .sort(["period_start", "period"], descending=True)
        .collect()
    )
    found = [models.Report.model_validate(_report(row)) for row in newest.to_dicts()]
    return page_of(found, lambda one: one.period, ["reports"], cursor, limit)


def mailing(call: Asked) -> models.Mailing:
    """Show when summaries are mailed, and to whom."""
    schedule = schedule_of(call.db, call.scope.tenant_id)
    return models.Mailing(
        schedule=None if schedule is None else models.Schedule.model_validate(schedule),
        recipients=[models.Recipient.model_validate(one) for one in recipients_of(call.db, call.scope)],
    )


def report(call: Asked, period: str) -> models.FullReport:
    """Show the newest summary of a UTC day (`2026-03-04`) or a week (`2026-W10`)."""
    row = _newest(call, "summaries", period, "revision")
    return models.FullReport.model_validate(_report(row) | {"document": _document(row)})


def facts(call: Asked, period: str) -> models.Facts:
    """Show the newest facts of a period."""
    row = _newest(call, "facts", period, "made_at")
    return models.Facts(period=period, digest=row["digest"], made_at=row["made_at"], document=_document(row))


def _after(values: list[Any]) -> tuple[datetime, datetime, str]:
    """Return the range that a cursor stands in, and the condition that only what follows it meets."""
    first, last, time, agent, load, cpu, seq = values
    numbers = (first, last, time, cpu, seq)
    whole = all(isinstance(number, int) and abs(number) < 2**62 for number in numbers)
    if not whole or not isinstance(agent, str) or not isinstance(load, str):
        raise bad_cursor()
    at = f"make_timestamptz({time})"
    older = (
        f"(time < {at} OR (time = {at} AND (agent_id, load_id, cpu, seq) > "
        f"({literal(agent)}, {literal(load)}, {cpu}, {seq})))"
    )
    try:
        return _moment(first), _moment(last), older
    except OverflowError as error:
        raise bad_cursor() from error


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _moment(micros: int) -> datetime:
    return moment_in_range(_EPOCH + timedelta(microseconds=micros))


def _name_of(kind: str, start: date) -> str:
    if kind == "day":
        return start.isoformat()
    year, week, _ = start.isocalendar()
    return f"{year}-W{week:02}"


def _report(row: dict[str, Any]) -> dict[str, Any]:
    named = {
        "kind": row["period"],
        "start": row["period_start"],
        "period": _name_of(row["period"], row["period_start"]),
    }
    return row | named


def _newest(call: Asked, table: str, period: str, by: str) -> dict[str, Any]:
    if not _PERIOD.fullmatch(period):
        raise not_found()
    kind = "week" if "W" in period else "day"
    try:
        start = date.fromisoformat(period)
    except ValueError:
        raise not_found() from None
    rows = scan(call.scope.tenant_id, table, start, start, call.lake).filter(pl.col("period") == kind)
    found = rows.sort(by).tail(1).collect()
    if not found.height:
        raise not_found()
    return found.row(0, named=True)


def _document(row: dict[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(row["document"])
    return document


ROUTES: Final = (
    ApiRoute("GET", "/events", "read:events", events),
    ApiRoute("GET", "/activity/histogram", "read:events", histogram),
    ApiRoute("GET", "/findings", "read:findings", findings),
    ApiRoute("GET", "/quality", "read:quality", quality),
    ApiRoute("GET", "/reports", "read:reports", reports),
    ApiRoute("GET", "/mailing", "read:reports", mailing),
    ApiRoute("GET", "/reports/{period}", "read:reports", report),
    ApiRoute("GET", "/reports/{period}/facts", "read:reports", facts),
)
