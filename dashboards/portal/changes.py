"""What changed on a day: findings that are open or new, and first touches of sensitive files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

import polars as pl

from dashboards.portal.queries import GRAVEST_FIRST
from dashboards.portal.scope import TenantScope
from lake.reads import scan
from lake.settings import LakeSettings
from tenancy.database import Database
from tenancy.days import get

MOST: Final = 5
"""Rows that are shown of each kind; the count beside them is of all."""
_OPEN: Final = ("opened", "ongoing", "quiet")


@dataclass(frozen=True)
class Changed:
    """What changed.

    `told_of`: the day of which the rules have spoken, this or the one before it, None if of neither; `open_findings`
    are those that were open then. `opened`: the gravest of the findings that this day opened. `first`: its earliest
    first touches of sensitive files in 28 days.
    """

    told_of: date | None
    open_findings: int
    opened: list[dict[str, Any]]
    opened_all: int
    first: list[dict[str, Any]]
    first_all: int


def changed_on(db: Database, scope: TenantScope, day: date, lake: LakeSettings) -> Changed:
    """Return what changed on a UTC day of the scope's tenant, from its rollups."""
    yesterday = day - timedelta(days=1)
    told_of = next((one for one in (day, yesterday) if _is_closed(db, scope, one)), None)
    found = (
        scan(scope.tenant_id, "findings", yesterday, day, lake)
        .filter(pl.col("state").is_in(_OPEN))
        .select("event_day", "finding_id", "severity", "title", "state", "hostname")
        .sort(GRAVEST_FIRST)
        .collect()
    )
    opened = found.filter(pl.col("state") == "opened", pl.col("event_day") == day)
    first = (
        scan(scope.tenant_id, "new_behaviour", day, day, lake)
        .select("first_time", "hostname", "process", "path")
        .sort("first_time", "hostname", "process", "path")
        .collect()
    )
    return Changed(
        told_of=told_of,
        open_findings=found.filter(pl.col("event_day") == told_of).height,
        opened=opened.head(MOST).to_dicts(),
        opened_all=opened.height,
        first=first.head(MOST).to_dicts(),
        first_all=first.height,
    )


def _is_closed(db: Database, scope: TenantScope, day: date) -> bool:
    """Say whether the day was checked, and rules applied to it, since data came last."""
    state = get(db, scope.tenant_id, day)
    return state is not None and state.state != "open"
