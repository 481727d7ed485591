"""Reads the part of a tenant's ledger that speaks about one day."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

import polars as pl

from pipelines.checks.ledger import BATCH, LOAD
from pipelines.frames import empty
from pipelines.tables import Snapshot

LATE: Final = timedelta(days=8)
"""How long after a day its batches are looked for: landing quarantines events more than 7 days behind."""

_DAY: Final = timedelta(days=1)


@dataclass(frozen=True)
class LedgerWindow:
    """The ledger around one day; all frames hold `lake.schema.BATCHES`, landed rows only.

    `cut`: each load's batches from the first to the last cut on that day. `baseline`: each of these loads' last
    batch before them. `around`: both, the batch that follows, and every other agent's newest batch before the day.
    """

    cut: pl.DataFrame
    baseline: pl.DataFrame
    around: pl.DataFrame

    def event_days(self) -> tuple[date, date] | None:
        """Return the first and last day of the events in `cut`; None if it holds none."""
        first, last = self.cut["first_time"].min(), self.cut["last_time"].max()
        if not isinstance(first, datetime) or not isinstance(last, datetime):
            return None
        # Lines that left quarantine may lie outside; they are of about the time of the others, or of their arrival.
        arrived = self.cut["received_day"].to_list()
        return min(first.date(), *arrived), max(last.date(), *arrived)

    def events(self, tables: Snapshot) -> pl.LazyFrame:
        """Return the rows of `events` that the batches of `cut` brought, whatever their day."""
        days = self.event_days()
        rows = tables.scan("events") if days is None else tables.scan("events", *days)
        return rows.join(self.cut.lazy().select(BATCH), on=BATCH, how="semi")

    def quarantine(self, tables: Snapshot) -> pl.DataFrame:
        """Return the rows of `quarantine` that arrived when the batches of `cut` did."""
        first, last = self.cut["received_day"].min(), self.cut["received_day"].max()
        if not isinstance(first, date) or not isinstance(last, date):
            return empty("quarantine")
        return tables.scan("quarantine", first, last).collect()


def read_window(tables: Snapshot, day: date) -> LedgerWindow:
    """Read the ledger around a day: batches cut on it and received within `LATE`, and their neighbours.

    The neighbour before is nearly always of the day before; only where it is not, older partitions are read, and of
    these only the batches' names and times.
    """
    start = datetime.combine(day, time(), UTC)
    ledger = landed_ledger(tables, day)
    near = ledger.filter(pl.col("sent_at").is_between(start - _DAY, start + 2 * _DAY)).select(_LIGHT).collect()
    today = near.filter(pl.col("sent_at").is_between(start, start + _DAY, closed="left"))
    range_of = today.group_by(LOAD).agg(first=pl.col("batch_seq").min(), last=pl.col("batch_seq").max())
    rows = near.join(range_of, on=LOAD, how="left")
    cut = rows.filter(pl.col("batch_seq").is_between("first", "last")).select(BATCH)
    before = rows.filter(pl.col("batch_seq") < pl.col("first")).group_by(LOAD).agg(pl.col("batch_seq").max())
    after = rows.filter(pl.col("batch_seq") > pl.col("last")).group_by(LOAD).agg(pl.col("batch_seq").min())
    older = _older(tables, day, near, range_of.join(before, on=LOAD, how="anti").filter(pl.col("first") > 1))
    newest = _newest_of_each_agent(pl.concat([near.filter(pl.col("sent_at") < start), older]))
    wanted = pl.concat([cut, before, after, older.select(BATCH), newest]).unique()
    full = pl.concat(
        [
            ledger.join(wanted.lazy(), on=BATCH, how="semi").collect(),
            _fetch(tables, day - 2 * _DAY, older),
        ]
    ).unique(BATCH)
    baseline = pl.concat([before, older.join(range_of, on=LOAD, how="semi").select(BATCH)])
    return LedgerWindow(
        cut=full.join(cut, on=BATCH, how="semi"),
        baseline=full.join(baseline, on=BATCH, how="semi"),
        around=full,
    )


_LIGHT: Final = [*BATCH, "sent_at", "received_day"]


def landed_ledger(tables: Snapshot, day: date) -> pl.LazyFrame:
    """Return the landed batches in which events of a day, or counters of it, can have come."""
    return _landed(tables.scan("batches", day - _DAY, day + LATE))


def sources(tables: Snapshot, day: date) -> pl.LazyFrame:
    """Return the batches that can have brought events of a day: `BATCH`, some of them twice.

    That is `landed_ledger`, and those of which lines left quarantine later on: these may be of any day.
    """
    start = datetime.combine(day, time(), UTC)
    left = tables.scan("batches").filter(
        pl.col("outcome") == "replayed", pl.col("first_time") < start + _DAY, pl.col("last_time") >= start
    )
    return pl.concat([landed_ledger(tables, day).select(BATCH), left.select(BATCH)])


def _landed(ledger: pl.LazyFrame) -> pl.LazyFrame:
    return ledger.filter(pl.col("outcome") == "landed")


def _older(tables: Snapshot, day: date, near: pl.DataFrame, loads: pl.DataFrame) -> pl.DataFrame:
    """Find, before the near partitions, the newest batch of `loads` and of each agent not heard of in them."""
    start = datetime.combine(day, time(), UTC)
    heard = near.filter(pl.col("sent_at") < start).select("agent_id").unique()
    hosts = tables.scan("hosts").filter(pl.col("first_seen") < start).select("agent_id").collect()
    quiet = hosts.join(heard, on="agent_id", how="anti")
    if quiet.is_empty() and loads.is_empty():
        return near.clear()
    past = _landed(tables.scan("batches", None, day - 2 * _DAY)).select(_LIGHT)
    of_loads = past.join(loads.lazy().select(LOAD), on=LOAD, how="semi").sort("batch_seq").group_by(LOAD).last()
    of_agents = past.join(quiet.lazy(), on="agent_id", how="semi").sort("sent_at", "batch_seq").group_by("agent_id")
    return pl.concat([of_loads.select(_LIGHT), of_agents.last().select(_LIGHT)]).unique(BATCH).collect()


def _newest_of_each_agent(light: pl.DataFrame) -> pl.DataFrame:
    return light.sort("sent_at", "batch_seq").group_by("agent_id").last().select(BATCH)


def _fetch(tables: Snapshot, until: date, light: pl.DataFrame) -> pl.DataFrame:
    first = light["received_day"].min() if not light.is_empty() else until
    rows = _landed(tables.scan("batches", first if isinstance(first, date) else until, until))
    return rows.join(light.lazy().select(BATCH), on=BATCH, how="semi").collect()
