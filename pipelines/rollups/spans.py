"""The time of an agent, cut into spans: vouched for by batches, silent, or not monitored at all."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import polars as pl

from lake.coverage import hours_between
from pipelines.checks.ledger import LOAD

MAX_GAP: Final = timedelta(seconds=90)
"""Three heartbeats: two batches of a load further apart than this do not vouch for the time between them."""

KINDS: Final = ("covered", "silent", "not_monitored", "recent")


def spans(deltas: pl.DataFrame, start: datetime, end: datetime) -> pl.DataFrame:
    """Cut `[start, end)` of every agent into spans: `agent_id`, `kind`, `from`, `to`.

    * `covered`: between two consecutive batches of a load at most `MAX_GAP` apart; and before the first batch of a
      load, from its first event.
    * `silent`: between two that are further apart; after a load's last batch that was no goodbye.
    * `not_monitored`: before an agent's first batch; after a goodbye, until the next load.
    * `recent`: the last `MAX_GAP` before `end`, if the newest batch is no older: too early to call it silence.

    Args:
        deltas: `pipelines.checks.ledger.deltas`, with each agent's newest batch before `start`, if there is one.
        start: aware, UTC.
        end: aware, UTC; the day's end or, while it runs, now.
    """
    ordered = _ordered(deltas)
    lit_start, lit_end = _moment(start), _moment(end)
    between = ordered.filter(pl.col("before").is_not_null()).select(
        "agent_id",
        kind=pl.when(~pl.col("new_load") & (pl.col("sent_at") - pl.col("before") <= MAX_GAP))
        .then(pl.lit("covered"))
        .when(pl.col("new_load") & pl.col("before_final"))
        .then(pl.lit("not_monitored"))
        .otherwise(pl.lit("silent")),
        **{"from": pl.col("before"), "to": pl.col("begins")},
    )
    head = ordered.filter(pl.col("new_load")).select(
        "agent_id", kind=pl.lit("covered"), **{"from": pl.col("begins"), "to": pl.col("sent_at")}
    )
    unseen = ordered.filter(pl.col("before").is_null()).select(
        "agent_id", kind=pl.lit("not_monitored"), **{"from": lit_start, "to": pl.col("begins")}
    )
    newest = ordered.group_by("agent_id").agg(pl.all().last())
    tail = newest.select(
        "agent_id",
        kind=pl.when(pl.col("final"))
        .then(pl.lit("not_monitored"))
        .when(lit_end - pl.col("sent_at") <= MAX_GAP)
        .then(pl.lit("recent"))
        .otherwise(pl.lit("silent")),
        **{"from": pl.col("sent_at"), "to": lit_end},
    )
    return (
        pl.concat([between, head, unseen, tail])
        .with_columns(
            pl.max_horizontal("from", lit_start).alias("from"),
            pl.min_horizontal("to", lit_end).alias("to"),
        )
        .filter(pl.col("from") < pl.col("to"))
        .sort("agent_id", "from")
    )


def by_hour(cut: pl.DataFrame) -> pl.DataFrame:
    """Sum spans into hours: `agent_id`, `hour` and one duration column a kind of `KINDS`."""
    hours = cut.with_columns(hour=hours_between(pl.col("from"), pl.col("to"))).explode("hour")
    took = pl.min_horizontal("to", pl.col("hour") + timedelta(hours=1)) - pl.max_horizontal("from", "hour")
    return (
        hours.with_columns(took=took)
        .group_by("agent_id", "hour")
        .agg(pl.col("took").filter(pl.col("kind") == kind).sum().alias(kind) for kind in KINDS)
        .sort("agent_id", "hour")
    )


def _ordered(deltas: pl.DataFrame) -> pl.DataFrame:
    """Each agent's batches in order of its loads, with the batch before and where the load's coverage `begins`."""
    first_event = pl.when(pl.col("first_time") >= pl.col("sent_at") - MAX_GAP).then("first_time").otherwise(None)
    begins = pl.min_horizontal("sent_at", first_event)
    return (
        deltas.with_columns(load_start=pl.col("sent_at").min().over(LOAD))
        .sort("agent_id", "load_start", "load_id", "batch_seq")
        .with_columns(
            before=pl.col("sent_at").shift(1).over("agent_id"),
            before_final=pl.col("final").shift(1).over("agent_id").fill_null(value=False),
            new_load=(pl.col("load_id") != pl.col("load_id").shift(1).over("agent_id")).fill_null(value=True),
        )
        .with_columns(
            begins=pl.when(pl.col("new_load") & (pl.col("batch_seq") == 1)).then(begins).otherwise("sent_at"),
        )
        .with_columns(begins=pl.max_horizontal("begins", "before"))
    )


def _moment(moment: datetime) -> pl.Expr:
    return pl.lit(moment, dtype=pl.Datetime("us", "UTC"))
