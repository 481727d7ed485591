"""One event by itself: every field with its meaning, the bytes of its path, and what is known of its host's hour."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import polars as pl

from dashboards.portal.question import cursor_of, moment, moment_of
from dashboards.portal.scope import TenantScope
from kaimon.base.escape import unescape
from lake.columns import CAUSES
from lake.lookup import KEY
from lake.reads import scan
from lake.schema import EVENTS
from lake.settings import LakeSettings

_PATHS: Final = ("path", "target_path", "exe")


@dataclass(frozen=True)
class Field:
    """A column of the event: `value` as the table has it, `bytes` those that it stands for where they differ."""

    name: str
    meaning: str
    unit: str
    value: Any
    bytes: str | None = None


@dataclass(frozen=True)
class Event:
    """An event, and what is known of its host's hour: None where nothing is computed."""

    row: dict[str, Any]
    fields: tuple[Field, ...]
    hour: datetime
    known: dict[str, Any] | None


def event_of(scope: TenantScope, name: str, lake: LakeSettings) -> Event | None:
    """Return the event that a cursor names, None if the tenant has none of that name.

    Raises:
        ValueError: it is no cursor.
    """
    time, key = moment_of(name), dict(zip(KEY, cursor_of(name)[1:], strict=True))
    same = [pl.col(column) == value for column, value in key.items()]
    day = time.date()
    found = (
        scan(scope.tenant_id, "events", day, day, lake).filter(pl.col("time") == moment(time), *same).head(1).collect()
    )
    if found.is_empty():
        return None
    row = found.row(0, named=True)
    fields = tuple(
        Field(one.name, one.meaning, one.unit, row[one.name], _bytes(one.name, row[one.name])) for one in EVENTS
    )
    hour = time.replace(minute=0, second=0, microsecond=0)
    return Event(row, fields, hour, _known(scope, row["agent_id"], hour, lake))


def _bytes(name: str, value: Any) -> str | None:
    """Return a path's bytes in hexadecimal, where it is not spelled as it is."""
    if name not in _PATHS or value is None or (value.isascii() and "\\" not in value):
        return None
    try:
        return unescape(value).hex(" ")
    except ValueError:
        return None


def _known(scope: TenantScope, agent: str, hour: datetime, lake: LakeSettings) -> dict[str, Any] | None:
    lost = pl.sum_horizontal(f"lost_{cause}" for cause in CAUSES).alias("lost")
    found = (
        scan(scope.tenant_id, "completeness", hour.date(), hour.date(), lake)
        .filter(pl.col("agent_id") == agent, pl.col("hour") == moment(hour))
        .select("state", "seen", "captured", "filtered", "pending", "unaccounted", "covered_s", lost)
        .collect()
    )
    return None if found.is_empty() else found.row(0, named=True)
