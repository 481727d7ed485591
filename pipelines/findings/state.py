"""What becomes of findings from day to day: opened, seen again, quiet, closed, suppressed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Final

import polars as pl

from pipelines.findings.rules import Rule
from pipelines.frames import conform
from tenancy.findings import Closing, Suppression

QUIET_DAYS: Final = 7
"""A finding that was not seen for so many days is closed by itself."""

_GROUP: Final = ["rule", "agent_id", "uid", "process", "exe"]
_SEEN: Final = ("opened", "ongoing")


def grouped(matches: pl.DataFrame, rules: Sequence[Rule], suppressed: Sequence[Suppression], day: date) -> pl.DataFrame:
    """Return a day's matches as findings: rule by host by user by program, without what becomes of them.

    Where every match of a group is suppressed, `suppression_id` is the first that does; else only the others count.

    Args:
        matches: `pipelines.findings.scan.scan` of the day.
        rules: at least those that matched.
        suppressed: what holds for the day.
        day: the UTC day.
    """
    fits = [pl.when(_fits(one)).then(pl.lit(one.suppression_id)) for one in suppressed]
    marked = matches.with_columns(suppression_id=pl.coalesce(fits) if fits else pl.lit(None, pl.String))
    named = marked.with_columns(
        file=pl.when(pl.col("target_path").is_null()).then("path").otherwise(pl.coalesce("target_path", "path")),
    )
    told = pl.DataFrame(
        [
            {"rule": rule.name, "title": rule.title, "severity": rule.severity}
            | {"attack_id": rule.attack_id, "attack_version": rule.attack_version}
            for rule in rules
        ],
        schema=dict.fromkeys(("rule", "title", "severity", "attack_id", "attack_version"), pl.String),
    )
    open_ = pl.col("suppression_id").is_null()
    counted = named.filter(open_.any().over(_GROUP) == open_)
    return (
        counted.sort("time", maintain_order=True)
        .group_by(_GROUP, maintain_order=True)
        .agg(
            pl.col("suppression_id").first(),
            hostname=pl.col("hostname").last(),
            user=pl.col("user").first(),
            path=pl.col("file").first(),
            paths=pl.col("file").drop_nulls().n_unique(),
            events=pl.col("count").sum(),
            first_time=pl.col("time").min(),
            last_time=pl.col("time").max(),
        )
        .join(told, on="rule")
        .with_columns(
            event_day=pl.lit(day), finding_id=pl.struct(_GROUP).map_elements(_finding_id, return_dtype=pl.String)
        )
    )


def settle(today: pl.DataFrame, before: pl.DataFrame, closings: Sequence[Closing], day: date) -> pl.DataFrame:
    """Return `lake.schema.FINDINGS` of one day: what was seen, and what was seen before and is not over.

    * `opened`: seen today, and not open before.
    * `ongoing`: seen today, and open before.
    * `quiet`: open, and not seen today.
    * `closed`: closed today, by a person since it was last seen, or after `QUIET_DAYS` without it.
    * `suppressed`: seen today, and not to be reported.

    It rests on what was seen in the days before, not on what was said of them then, so that any day may be told again.

    Args:
        today: `grouped` of the day.
        before: the table's rows of at least the `QUIET_DAYS` before.
        closings: the tenant's.
        day: the UTC day.
    """
    since = day - timedelta(days=QUIET_DAYS)
    seen = before.filter(pl.col("state").is_in(_SEEN), pl.col("event_day").is_between(since, day, closed="left"))
    last = {row["finding_id"]: row for row in seen.sort("event_day").iter_rows(named=True)}
    ends = {name: _end(name, row["event_day"], closings) for name, row in last.items()}
    rows = []
    for row in today.iter_rows(named=True):
        name = row["finding_id"]
        known = last.get(name)
        if row["suppression_id"] is not None:
            rows.append(row | {"state": "suppressed", "opened_day": day})
        elif known is None or ends[name] <= day:
            rows.append(row | {"state": "opened", "opened_day": day})
        else:
            rows.append(row | {"state": "ongoing", "opened_day": known["opened_day"]})
    for name in last.keys() - set(today["finding_id"]):
        if day <= ends[name]:
            state = "closed" if day == ends[name] else "quiet"
            rows.append(last[name] | {"event_day": day, "state": state, "events": 0, "paths": 0})
    frame = pl.DataFrame(rows, schema=today.schema | {"state": pl.String, "opened_day": pl.Date})
    return conform(frame.sort("finding_id"), "findings")


def _end(finding_id: str, seen: date, closings: Sequence[Closing]) -> date:
    """The day on which a finding that was last seen on a day is over."""
    told = [max(one.closed_at.date(), seen + timedelta(days=1)) for one in closings if one.finding_id == finding_id
            and one.closed_at.date() >= seen]  # fmt: skip
    return min([*told, seen + timedelta(days=QUIET_DAYS)])


def _fits(one: Suppression) -> pl.Expr:
    fits = pl.col("rule") == one.rule
    for column, value in (("agent_id", one.agent_id), ("exe", one.exe), ("user", one.user)):
        if value is not None:
            fits &= pl.col(column).eq_missing(pl.lit(value))
    if one.path_prefix is not None:
        fits &= pl.col("path").str.starts_with(one.path_prefix).fill_null(value=False)
    return fits


def _finding_id(group: dict[str, object]) -> str:
    key = "\0".join(f"{name}={group[name]!r}" for name in _GROUP)
    return f"fnd_{hashlib.sha256(key.encode()).hexdigest()[:16]}"
