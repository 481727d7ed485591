"""What of a day's findings an executive must see: at most three, the gravest first, with why, who and what to do."""

from __future__ import annotations

from datetime import date
from typing import Any, Final, Literal

import polars as pl

from pipelines.findings.rules import SEVERITIES, by_name
from pipelines.summaries.document import Entity, Matter

MOST: Final = 3
OPEN: Final = ("opened", "ongoing", "quiet")
SEEN: Final = ("opened", "ongoing")


def matters(findings: pl.DataFrame) -> list[dict[str, Any]]:
    """Return at most `MOST` rules with open findings, the gravest and newest first.

    Each is `rule`, `severity`, `state` (`opened` if any finding of it is new today), the figures `findings`, `hosts`
    and `events` over all its open findings, `since`, when the first of them was first seen on the day that they were
    last seen, and the first finding's `hostname`, `user` and `program`.

    Args:
        findings: rows of `lake.schema.FINDINGS` of one day.
    """
    rank = {name: place for place, name in enumerate(SEVERITIES)}
    order = {name: place for place, name in enumerate(OPEN)}
    told = (
        findings.filter(pl.col("state").is_in(OPEN))
        .with_columns(
            grave=pl.col("severity").replace_strict(rank, return_dtype=pl.Int64),
            new=pl.col("state").replace_strict(order, return_dtype=pl.Int64),
        )
        .sort("grave", "new", "events", "finding_id", descending=[False, False, True, False])
        .group_by("rule", maintain_order=True)
        .agg(
            pl.col("severity", "state", "hostname", "user", "grave", "new").first(),
            program=pl.coalesce("exe", "process").first(),
            uid=pl.col("uid").first(),
            findings=pl.len().cast(pl.Int64),
            hosts=pl.col("agent_id").n_unique().cast(pl.Int64),
            events=pl.col("events").sum(),
            since=pl.col("first_time").min(),
        )
        .sort("grave", "new", "events", "rule", descending=[False, False, True, False])
    )
    return told.head(MOST).to_dicts()


def over_week(findings: pl.DataFrame, last: date) -> pl.DataFrame:
    """Return the findings that are open on a week's last day, with what was seen of them in all of it.

    `state` is `opened` if any is new that week, else `ongoing` if it was seen, `events` is the week's sum, and
    `first_time` the first in it, or before it if it was not seen in it.
    """
    said = (
        findings.filter(pl.col("state") != "suppressed")
        .group_by("finding_id")
        .agg(
            week_events=pl.col("events").sum(),
            week_first=pl.col("first_time").min(),
            new=(pl.col("state") == "opened").any(),
            seen=pl.col("state").is_in(SEEN).any(),
        )
    )
    state = pl.when("new").then(pl.lit("opened")).when("seen").then(pl.lit("ongoing")).otherwise("state")
    return (
        findings.filter(pl.col("event_day") == last, pl.col("state").is_in(OPEN))
        .join(said, on="finding_id")
        .with_columns(state=state, events="week_events", first_time="week_first")
        .select(findings.columns)
    )


def tell(row: dict[str, Any], alias: str, entities: dict[str, Entity], now: str = "today") -> Matter:
    """Return one matter of `matters`, its names put among the entities under aliases."""
    rule = by_name()[row["rule"]]
    user = row["user"] if row["user"] is not None or row["uid"] is None else f"uid {row['uid']}"
    names: tuple[tuple[Literal["host", "user", "program"], str | None], ...] = (
        ("host", row["hostname"]),
        ("user", user),
        ("program", row["program"]),
    )
    held = {kind: Entity(f"entity.{alias}_{kind}", kind, str(name)) for kind, name in names if name is not None}
    entities.update({one.id: one for one in held.values()})
    where = f"on {{{{entity.{alias}_host}}}}"
    if row["hosts"] > 1:
        where = f"on {{{{{alias}.hosts}}}} hosts, among them {{{{entity.{alias}_host}}}}"
    if row["state"] == "quiet":
        who = f"Not seen {now}; last {where}, {{{{{alias}.since}}}}."
    elif rule.table == "completeness":
        hours = "host-hour" if row["events"] == 1 else "host-hours"
        who = f"Seen {where}, for {{{{{alias}.events}}}} {hours} from {{{{{alias}.since}}}} on."
    else:
        by = f"by {{{{entity.{alias}_user}}}} " if "user" in held else ""
        using = f"with {{{{entity.{alias}_program}}}}, " if "program" in held else ""
        times = "once, at" if row["events"] == 1 else f"{{{{{alias}.events}}}} times from"
        first = "first " if row["findings"] > 1 else ""
        on = "" if row["events"] == 1 else " on"
        who = f"Seen {where}, {times} {{{{{alias}.since}}}}{on}; {first}{by}{using}".rstrip(" ,;") + "."
    return Matter(alias, rule.name, rule.severity, row["state"], rule.title, who, rule.rationale, rule.advice)
