"""Who touched this path: a look-up over many days that opens only what can hold it."""

from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl
import pyarrow as pa
from deltalake import QueryBuilder

from kaimon.base.access import accessing
from lake.frames import frame_schema
from lake.settings import LakeSettings
from lake.tables import silent_table


def touches(
    tenant: str, path: str, first_day: date, last_day: date, settings: LakeSettings | None = None
) -> pl.DataFrame:
    """Return the events that happened to a path, and those that led to it (renames, links, symlinks), by time.

    Of sealed days only row groups are opened whose statistics leave the path possible, and of their columns, but for
    the path's own, only such pages; of other days, everything. That is why this asks the one engine here that knows
    the page index: Polars and DuckDB go by row groups.

    Args:
        tenant: whose events.
        path: as the tables have it: absolute, odd bytes escaped.
        first_day: UTC; the first that counts.
        last_day: the last.
        settings: where the lake is.
    """
    schema = frame_schema("events")
    with accessing("storage", "lake.read", tenant, f"events/{first_day}..{last_day}") as told:
        handle = silent_table(tenant, "events", settings)
        if handle is None:
            return pl.DataFrame(schema=schema)
        # Apart, since pages are told by one column at a time: an OR of two would open them all.
        here, led = f"path = {_quoted(path)}", f"target_path = {_quoted(path)} AND path <> {_quoted(path)}"
        found: Any = (
            QueryBuilder()
            .register("events", handle)
            .execute(" UNION ALL ".join(_select(condition, first_day, last_day) for condition in (here, led)))
            .read_all()
        )
        rows = pl.DataFrame(pa.table(found))
        told.count = rows.height
    return rows.select(pl.col(name).cast(kind) for name, kind in schema.items()).sort("time", "agent_id", "cpu", "seq")


def _select(condition: str, first_day: date, last_day: date) -> str:
    columns = ", ".join(f'"{name}"' for name in frame_schema("events"))
    days = f"event_day BETWEEN DATE '{first_day.isoformat()}' AND DATE '{last_day.isoformat()}'"
    return f"SELECT {columns} FROM events WHERE {days} AND {condition}"  # noqa: S608 - our own words, and quoted ones


def _quoted(text: str) -> str:
    """Return a text as SQL's literal, in which the quote is the only character that means something."""
    return "'" + text.replace("'", "''") + "'"
