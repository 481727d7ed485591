"""What a day's rules look at in `quarantine` and `hosts`: nulls, values, identities, and that no sender is missing."""

from __future__ import annotations

from typing import Final

import polars as pl

from lake.columns import Column
from lake.schema import HOSTS, QUARANTINE
from pipelines.checks.quarantined import STAGED

_LINE: Final = [*STAGED, "line", "code"]


def quarantine_metrics(quarantine: pl.DataFrame) -> dict[str, int]:
    """Measure the lines that arrived on a day, rows of `quarantine`: how many break each rule.

    A line is there once, and once more as the mark that it has left; a batch that conflicts has other lines under the
    same numbers, but from another segment.
    """
    outside = [(pl.col("line") < 1).sum(), (pl.col("batch_seq") < 1).sum(), (pl.col("code") == "").sum()]
    measured = quarantine.select(
        quarantine_nulls=_nulls(QUARANTINE),
        quarantine_outside_domain=pl.sum_horizontal(outside),
        quarantine_doubled=pl.len() - pl.struct(_LINE).n_unique(),
    )
    return {name: int(value) for name, value in measured.row(0, named=True).items()}


def host_metrics(hosts: pl.DataFrame, day_batches: pl.DataFrame) -> dict[str, int]:
    """Measure `hosts` against the ledger's rows of a day.

    Args:
        hosts: the whole table.
        day_batches: the ledger's rows that arrived on the day, whatever became of them.
    """
    senders = day_batches.filter(pl.col("outcome") == "landed").select("agent_id").unique()
    measured = hosts.select(
        hosts_nulls=_nulls(HOSTS),
        hosts_outside_domain=pl.sum_horizontal(
            (pl.col("first_seen") > pl.col("last_seen")).sum(), (pl.col("hostname") == "").sum()
        ),
        hosts_doubled=pl.len() - pl.col("agent_id").n_unique(),
    )
    missing = senders.join(hosts, on="agent_id", how="anti").height
    return {name: int(value) for name, value in measured.row(0, named=True).items()} | {"hosts_missing": missing}


def _nulls(columns: tuple[Column, ...]) -> pl.Expr:
    return pl.sum_horizontal(pl.col([column.name for column in columns if not column.nullable]).null_count())
