"""A tenant with data in every table that pages read, written as landing and the rollups write it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl

from lake.commits import Writer
from lake.encoding import encode
from lake.files import put_file
from lake.frames import frame_schema, to_rows
from lake.settings import LakeSettings

DAY = date(2026, 3, 4)
MIDNIGHT = datetime(2026, 3, 4, tzinfo=UTC)
AGENTS = ("agt_0", "agt_1")
"""`host-0` is known all day but for its hour 13, of which nothing is known; `host-1` begins at noon."""


def write(table: str, day: date, told: list[dict[str, Any]], lake: LakeSettings, tenant: str) -> None:
    """Append rows to a real table; columns that are not told hold something."""
    schema = frame_schema(table)
    values = {
        pl.String: "x",
        pl.Date: day,
        pl.Datetime("us", "UTC"): datetime(day.year, day.month, day.day, tzinfo=UTC),
    }
    frame = pl.DataFrame(told).select(
        pl.col(name).cast(kind)
        if name in told[0]
        else pl.lit([] if kind.is_nested() else values.get(kind, 0)).cast(kind).alias(name)
        for name, kind in schema.items()
    )
    if table == "events":
        span: Any = (frame.height, frame["time"].min(), frame["time"].max())
        made = [put_file(tenant, table, day, encode([to_rows(frame, table)], table), span, lake)]
        Writer(tenant, 1, lake).append_files(table, made)
    else:
        Writer(tenant, 1, lake).append(table, frame)


def fill(
    lake: LakeSettings,
    tenant: str,
    paths: list[str] | None = None,
    *,
    hostnames: Sequence[str] = ("host-0", "host-1"),
    processes: Sequence[str] = ("vim", "=cmd"),
    users: Sequence[str] = ("x",),
) -> None:
    """Write a day: an event a minute of each host while it is watched, and the hours' sums as rollups make them.

    Names are taken in turn, minute by minute; the second host is half a round ahead with its paths.
    """
    paths = paths or ["/etc/passwd", "/srv/a b'c", "/srv/\\xff"]
    events, activity, known = [], [], []
    for number, agent in enumerate(AGENTS):
        name = {"agent_id": agent, "hostname": hostnames[number]}
        for hour in range(24):
            watched, at = number == 0 or hour >= 12, MIDNIGHT + timedelta(hours=hour)
            silent = number == 0 and hour == 13
            rows = 60 if watched and not silent else 0
            state = "not_monitored" if not watched else "unknown" if silent else "complete"
            known.append(name | {"hour": at, "captured": rows, "seen": rows, "state": state, "covered_s": 60.0 * rows})
            if rows:
                sums = {"hour": at, "operation": "write", "events": rows, "rows": rows, "paths": 1, "denied": 0}
                activity.append(name | sums)
            events += [
                name
                | {
                    "time": at + timedelta(minutes=minute, microseconds=number),
                    "seq": hour * 60 + minute,
                    "cpu": number,
                    "load_id": "load",
                    "operation": "write",
                    "path": paths[(hour * 60 + minute + number * (len(paths) // 2)) % len(paths)],
                    "process": processes[(hour * 60 + minute) % len(processes)],
                    "pid": 100 + minute % 2,
                    "user": users[(hour * 60 + minute) % len(users)],
                    "count": 1,
                }
                for minute in range(rows)
            ]
    write("events", DAY, events, lake, tenant)
    write("completeness", DAY, known, lake, tenant)
    write("activity", DAY, activity, lake, tenant)
