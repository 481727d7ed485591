"""The proof, again: both equations of the promise over a range of days, from the tables alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

import polars as pl

from lake.columns import CAUSES
from pipelines.checks.accounting import account, accounting_line, by_load
from pipelines.checks.metrics import event_metrics, rows_without_batch
from pipelines.ledger_window import read_window, sources
from pipelines.rollups.completeness import arrivals, completeness
from pipelines.tables import TenantTables

_SUMS: Final = (
    "seen", "delivered_events", "quarantined_events", "filtered", "pending", "lost_events", "events_unaccounted",
    "next_seq", "delivered_rows", "quarantined_rows", "lost_rows", "rows_unaccounted",
)  # fmt: skip
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True)
class Proof:
    """What the tables prove of a range of days.

    `accounting` is a row a CPU of a load and day (`pipelines.checks.accounting.account`, and `day`); `loads` its sums a
    load (`by_load`); `hours` is `completeness` recomputed; `stray_rows` and `doubled_rows` are rows of `events` that no
    landed batch brought, or that are there twice.
    """

    first: date
    last: date
    accounting: pl.DataFrame
    loads: pl.DataFrame
    hours: pl.DataFrame
    stray_rows: int
    doubled_rows: int

    @property
    def holds(self) -> bool:
        """Whether both equations hold for every load on every day, and every row is there once and by its batch.

        What is known lost, and hours that are unknown because a host was silent, do not break it: they are said.
        """
        return bool(self.loads["holds"].all()) and not self.stray_rows and not self.doubled_rows

    @property
    def sums(self) -> dict[str, int]:
        """Both equations' terms over everything."""
        return {name: int(self.accounting[name].sum()) for name in _SUMS}

    @property
    def states(self) -> dict[str, int]:
        """Host-hours by their state."""
        return dict(sorted(Counter(self.hours["state"].to_list()).items()))

    @property
    def doubtful(self) -> pl.DataFrame:
        """The host-hours that are not known whole: `unknown`, or with something lost or unaccounted."""
        return self.hours.filter(pl.col("state").is_in(["unknown", "partial"]))

    def lines(self) -> list[str]:
        """Return the verdict in words; the last line says whether the proof holds."""
        states = ", ".join(f"{count:,} {state.replace('_', ' ')}" for state, count in self.states.items())
        said = [accounting_line(self.accounting), f"host-hours: {states or 'none'}"]
        said += [_line(row) for row in self.doubtful.iter_rows(named=True)]
        said += [
            f"{row['day']}  load {row['load_id']} of {row['agent_id']} does not balance: "
            f"{row['events_unaccounted']:,} events and {row['rows_unaccounted']:,} rows unaccounted"
            for row in self.loads.filter(~pl.col("holds")).iter_rows(named=True)
        ]
        if self.stray_rows:
            said.append(f"{self.stray_rows:,} rows of events that no landed batch brought")
        if self.doubled_rows:
            said.append(f"{self.doubled_rows:,} rows of events that are there twice")
        if self.accounting.is_empty():
            said.append("no batch was cut in these days: nothing was seen, and nothing is vouched for")
        verdict = "holds" if self.holds else "does NOT hold"
        return [*said, f"the proof of {self.first} to {self.last} {verdict}"]

    def document(self) -> dict[str, Any]:
        """Return the same for programs."""
        return {
            "from": self.first.isoformat(),
            "to": self.last.isoformat(),
            "holds": self.holds,
            "sums": self.sums,
            "stray_rows": self.stray_rows,
            "doubled_rows": self.doubled_rows,
            "host_hours": self.states,
            "unbalanced": self.loads.filter(~pl.col("holds")).select(
                pl.col("day").cast(pl.String), "agent_id", "load_id", "events_unaccounted", "rows_unaccounted"
            ).to_dicts(),
            "hours": self.hours.select(
                pl.col("hour").dt.strftime("%Y-%m-%dT%H:%M:%SZ"), pl.exclude("hour", "event_day")
            ).to_dicts(),
        }  # fmt: skip


def verify(tables: TenantTables, first: date, last: date) -> Proof:
    """Recompute the proof of the days `first` to `last`, a day at a time; nothing that a rollup said is believed.

    Raises:
        ValueError: the range is empty.
        tenancy.leases.LeaseHeldError: somebody wrote the tables for too long to read them as of one moment.
    """
    if first > last:
        raise ValueError(f"the range is empty: {first} is after {last}")
    snapshot = tables.snapshot("events", "batches", "quarantine", "hosts")
    now = tables.db.clock()
    parts: list[pl.DataFrame] = []
    hours: list[pl.DataFrame] = []
    stray = doubled = 0
    day = first
    while day <= last:
        window, today = read_window(snapshot, day), snapshot.scan("events", day, day)
        events, quarantine = window.events(snapshot), window.quarantine(snapshot)
        parts.append(account(events, window.cut, quarantine, window.baseline).with_columns(day=pl.lit(day)))
        hours.append(completeness(window.around, arrivals(events, quarantine), day, now))
        stray += rows_without_batch(today, sources(snapshot, day))
        doubled += event_metrics(today)["doubled_rows"]
        day += _DAY
    accounting = pl.concat(parts)
    loads = pl.concat([by_load(part.drop("day")).with_columns(day=part["day"].first()) for part in parts])
    return Proof(first, last, accounting, loads, pl.concat(hours), stray, doubled)


def _line(row: dict[str, Any]) -> str:
    lost = [f"{row[f'lost_{cause}']:,} lost ({cause})" for cause in CAUSES if row[f"lost_{cause}"]]
    if row["unaccounted"]:
        lost.append(f"{row['unaccounted']:,} unaccounted")
    if row["state"] == "unknown":
        lost.append(f"{row['covered_s']:,.0f} s of it are vouched for")
    said = "; ".join(lost) or "rows lost that stood for no event"
    return f"{row['hour']:%Y-%m-%dT%H:%MZ}  {row['hostname']}  {row['state']}: {said}"
