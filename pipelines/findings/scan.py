"""A day's rows against every rule in one scan, and the windows of what must happen often to count."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import polars as pl

from pipelines.findings.rules import DERIVED, Rule, Window

_EVENT: Final = ("time", "agent_id", "hostname", "uid", "user", "process", "exe", "path", "target_path", "count")
_ORDER: Final = ("load_id", "cpu", "seq")

MATCHES: Final[dict[str, Any]] = {
    "rule": pl.String,
    "time": pl.Datetime("us", "UTC"),
    "agent_id": pl.String,
    "hostname": pl.String,
    "uid": pl.Int64,
    "user": pl.String,
    "process": pl.String,
    "exe": pl.String,
    "path": pl.String,
    "target_path": pl.String,
    "count": pl.Int64,
}
"""What `scan` returns: one row for each event and rule that it matched."""


def scan(events: pl.LazyFrame, completeness: pl.LazyFrame, rules: Sequence[Rule]) -> pl.DataFrame:
    """Return `MATCHES` of one day, in the order of rule, time and the rows' own numbers.

    Each table is read once, whatever the number of rules; memory holds what matched. `path` is the file that a match
    is about: for a rename or a link what it made, if the rule looks at that. A host-hour has no user and no path,
    and counts one.
    """
    of_events = [rule for rule in rules if rule.table == "events"]
    of_hours = [rule for rule in rules if rule.table == "completeness"]
    hours = completeness.with_columns(time="hour", count=pl.lit(1, pl.Int64))
    found = [
        _match(events.with_columns(**DERIVED), of_events, [*_EVENT, *_ORDER]),
        _match(hours, of_hours, ["time", "agent_id", "hostname", "count"]),
    ]
    missing = pl.DataFrame(
        schema={**MATCHES, **{name: pl.String if name == "load_id" else pl.Int64 for name in _ORDER}}
    )
    matched = pl.concat([missing, *found], how="diagonal_relaxed").sort("rule", "time", "agent_id", *_ORDER)
    kept = matched.select(pl.col(name).cast(kind) for name, kind in MATCHES.items())
    for rule in rules:
        if rule.window is not None:
            mine = kept.filter(pl.col("rule") == rule.name)
            kept = pl.concat([kept.filter(pl.col("rule") != rule.name), often(mine, rule.window)])
    return kept.sort("rule", maintain_order=True)


def often(rows: pl.DataFrame, window: Window) -> pl.DataFrame:
    """Return those of `rows` that lie in some window of the group with enough different values of the field.

    Exact and without looking at each window: a row counts from its moment until the same value comes again in its
    group, or the window's length is over; where the sum of those that count reaches `least`, a window is full, and all
    rows of the window's length before that moment belong to it.
    """
    if rows.is_empty():
        return rows
    length, group = timedelta(seconds=window.seconds), list(window.group)
    ordered = rows.sort("time", maintain_order=True)
    again = pl.col("time").shift(-1).over([*group, window.field])
    begins = ordered.select(*group, at="time", step=pl.lit(1, pl.Int64))
    ends = ordered.select(*group, at=pl.min_horizontal(pl.col("time") + length, again), step=pl.lit(-1, pl.Int64))
    # At one moment what ends goes before what begins: a value that comes again counts once.
    steps = pl.concat([ends, begins]).sort("at", "step", maintain_order=True)
    full = steps.with_columns(active=pl.col("step").cum_sum().over(group)).filter(pl.col("active") >= window.least)
    moments = full.select(*group, full_at="at").sort("full_at")
    near = ordered.join_asof(
        moments, left_on="time", right_on="full_at", by=group, strategy="forward", check_sortedness=False
    )
    return near.filter(pl.col("full_at") < pl.col("time") + length).select(rows.columns)


def _match(rows: pl.LazyFrame, rules: Sequence[Rule], columns: Sequence[str]) -> pl.DataFrame:
    """The rows that some rule matches, once for each, with its name; told apart only once few are left."""
    if not rules:
        return pl.DataFrame()
    fit = rows.filter(pl.any_horizontal(rule.matches for rule in rules)).collect()
    return pl.concat(fit.filter(rule.matches).select(pl.lit(rule.name).alias("rule"), *columns) for rule in rules)
