"""What a tenant used, by day and by month: the sums of what is computed, and null where nothing is known."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from dashboards.portal.billing import _months_before
from dashboards.portal.usage import DayUse, months_of, usage_of
from lake.commits import Writer
from lake.frames import frame_schema
from lake.settings import LakeSettings


def test_usage_is_what_is_computed_and_what_is_sealed(tmp_path: Path) -> None:
    lake, first = LakeSettings(home=tmp_path), date(2026, 3, 1)
    days = [first + timedelta(days=number) for number in range(4)]
    # The first two days are computed (two hosts, one of which sent nothing on the second), the second and third sealed.
    hours = [(days[0], "agt_1", 5), (days[0], "agt_1", 6), (days[0], "agt_2", 7), (days[1], "agt_1", 3)]
    write("completeness", lake, event_day=hours, agent_id=[one[1] for one in hours], captured=[one[2] for one in hours])
    seals = [(days[1], 2, 90), (days[1], 2, 100), (days[2], 11, 200)]
    at = [datetime(2026, 3, 5, hour, tzinfo=UTC) for hour in (1, 2, 1)]
    sizes = {"events": [one[1] for one in seals], "bytes": [one[2] for one in seals]}
    write("seals", lake, event_day=seals, sealed_at=at, **sizes)
    scope: Any = type("Scope", (), {"tenant_id": "acme"})
    assert usage_of(scope, days[0], days[-1], lake) == [
        DayUse(days[0], 18, 2, None),
        DayUse(days[1], 3, 1, 100),
        DayUse(days[2], 11, None, 200),
        DayUse(days[3]),
    ]
    assert usage_of(scope, days[0], days[-1], lake, hosts_from=days[2])[1] == DayUse(days[1], 2, None, 100)
    other: Any = type("Scope", (), {"tenant_id": "bolt"})
    assert usage_of(other, days[0], days[0], lake) == [DayUse(days[0])]


def write(table: str, lake: LakeSettings, *, event_day: list[Any], **columns: list[Any]) -> None:
    """Write rows of acme's; columns that are not told hold something."""
    told = pl.DataFrame({"event_day": [one[0] for one in event_day], **columns})
    something = {pl.String: "x", pl.Datetime("us", "UTC"): datetime(2026, 3, 1, tzinfo=UTC)}
    frame = told.select(
        pl.col(name).cast(kind) if name in told.columns else pl.lit(something.get(kind, 1)).cast(kind).alias(name)
        for name, kind in frame_schema(table).items()
    )
    Writer("acme", 1, lake).replace(table, frame, "true")


def test_months_are_the_sums_of_days_of_which_something_is_known() -> None:
    days = [DayUse(date(2026, 2, 28), 5, 1, 100), DayUse(date(2026, 3, 1)), DayUse(date(2026, 3, 2), 7, 2, None)]
    found = [(one.month, one.days, one.events, one.bytes) for one in months_of(days)]
    assert found == [(date(2026, 3, 1), 1, 7, None), (date(2026, 2, 1), 1, 5, 100)]
    assert [_months_before(date(2026, 3, 31), number) for number in (0, 2, 3, 11)] == [
        date(2026, 3, 1),
        date(2026, 1, 1),
        date(2025, 12, 1),
        date(2025, 4, 1),
    ]
