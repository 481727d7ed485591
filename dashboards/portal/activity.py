"""A day's events as rows: filtered, in pages that stay put while new rows land, and as CSV that runs nothing."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import polars as pl

from dashboards.portal.scope import TenantScope
from kaimon.base.sheets import no_formula
from lake.reads import scan
from lake.settings import LakeSettings

PAGE_ROWS: Final = 100
CSV_ROWS: Final = 10_000
FILTERS: Final = ("hostname", "operation", "path", "process", "user")
SHOWN: Final = ("time", "hostname", "operation", "path", "target_path", "process", "user", "result", "count")
_KEY: Final = ("agent_id", "load_id", "cpu", "seq")


@dataclass(frozen=True)
class Rows:
    """Newest first; `cursor` names the last row if there are more."""

    rows: list[dict[str, Any]]
    cursor: str | None


def rows_of(scope: TenantScope, day: date, query: Mapping[str, str], most: int, lake: LakeSettings) -> Rows:
    """Return at most `most` rows of a UTC day, those after `query["after"]`; `path` is a prefix, other filters exact.

    Raises:
        ValueError: the cursor is not one.
    """
    frame = scan(scope.tenant_id, "events", day, day, lake)
    for name in FILTERS:
        if wanted := query.get(name, ""):
            column = pl.col(name)
            frame = frame.filter(column.str.starts_with(wanted) if name == "path" else column == wanted)
    if after := query.get("after", ""):
        frame = frame.filter(_older(after))
    order = ("time", *_KEY)
    found = frame.sort(order, descending=[True, *[False] * len(_KEY)]).head(most + 1).select(*SHOWN, *_KEY).collect()
    rows = found.head(most).to_dicts()
    return Rows(rows, _cursor(rows[-1]) if found.height > most else None)


def as_csv(rows: Rows) -> str:
    """Return the rows as CSV; a cell that a spreadsheet would take for a formula begins with an apostrophe."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(SHOWN)
    for row in rows.rows:
        writer.writerow([_cell(row[name]) for name in SHOWN])
    return text.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return no_formula(value) if isinstance(value, str) else value


def _cursor(row: Mapping[str, Any]) -> str:
    micros = (row["time"] - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return "~".join([str(micros), *(str(row[name]) for name in _KEY)])


def _older(cursor: str) -> pl.Expr:
    micros, agent, load, cpu, seq = cursor.split("~")
    time = pl.lit(int(micros)).cast(pl.Datetime("us", "UTC"))
    values: dict[str, Any] = {"agent_id": agent, "load_id": load, "cpu": int(cpu), "seq": int(seq)}
    after, same = pl.col("time") < time, pl.col("time") == time
    for name, value in values.items():
        after |= same & (pl.col(name) > value)
        same &= pl.col(name) == value
    return after
