"""The range of time that `--from` and `--to` mean, for every command that takes them."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Final

import typer

from kaimon.base.clock import utc_now
from kaimon.cli.terminal import inert
from lake.query import QueryError

FromOption = Annotated[
    str | None,
    typer.Option("--from", help="Date or ISO 8601 time, UTC unless it says; by default 24 hours before --to."),
]
ToOption = Annotated[
    str | None,
    typer.Option("--to", help="Date (its end) or ISO 8601 time, UTC unless it says; by default now."),
]

_FORM: Final = ["%Y-%m-%d"]
FirstDay = Annotated[datetime, typer.Option("--from", help="The first UTC day.", formats=_FORM)]
LastDay = Annotated[datetime, typer.Option("--to", help="The last UTC day.", formats=_FORM)]


def asked_days(first: datetime, last: datetime) -> list[date]:
    """Return the days that two options of type `FirstDay` and `LastDay` mean, in order.

    Raises:
        ValueError: there is none.
    """
    days = (last.date() - first.date()).days + 1
    if days < 1:
        raise ValueError("the range is empty: --from must not be after --to")
    return [first.date() + timedelta(days=number) for number in range(days)]


def asked_span(first: str | None, last: str | None) -> tuple[datetime, datetime]:
    """Return the range up to now that two options mean, or end the command with what is wrong with them."""
    try:
        return span(first, last, utc_now())
    except QueryError as error:
        print(f"error: {inert(str(error))}", file=sys.stderr)
        raise typer.Exit(2) from error


def span(first: str | None, last: str | None, now: datetime) -> tuple[datetime, datetime]:
    """Return the range that two options mean, in UTC; a date means its start, or its end.

    Raises:
        QueryError: one is neither a date nor a time, or the range is empty.
    """
    end = now if last is None else _moment(last, "--to", timedelta(days=1))
    begin = end - timedelta(days=1) if first is None else _moment(first, "--from", timedelta(0))
    if begin >= end:
        raise QueryError("the range is empty: --from must be before --to")
    return begin, end


def _moment(text: str, option: str, whole_day: timedelta) -> datetime:
    try:
        try:
            return datetime.combine(date.fromisoformat(text), time(), UTC) + whole_day
        except ValueError:
            moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise QueryError(f"{option} wants a date or an ISO 8601 time, not {text!r}") from error
