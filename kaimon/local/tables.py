"""What the tables say, for the demo: the marked rows, the rollups, the accounting, the summary."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import polars as pl

from kaimon.local.stack import Local
from lake.reads import scan
from lake.settings import LakeSettings
from pipelines.checks.accounting import account, accounting_line, by_load, missing_batches
from pipelines.checks.missing import missing_rows


def read(local: Local, tenant: str, table: str) -> pl.DataFrame:
    """Return a whole table of a tenant."""
    return scan(tenant, table, settings=LakeSettings(home=local.home)).collect()


def marked(local: Local, tenant: str, marker: str) -> pl.DataFrame:
    """Return the events whose path or target bears `marker`, in the order in which they happened."""
    bears = pl.col("path").str.contains(marker, literal=True) | pl.col("target_path").str.contains(marker, literal=True)
    frame = scan(tenant, "events", settings=LakeSettings(home=local.home)).filter(bears.fill_null(value=False))
    return frame.sort("monotonic_ns", "cpu", "seq").collect()


def goodbye_landed(local: Local, tenant: str) -> bool:
    """Say whether the ledger holds an agent's last batch."""
    ledger = scan(tenant, "batches", settings=LakeSettings(home=local.home))
    return not ledger.filter(pl.col("final")).select("batch_seq").collect().is_empty()


def days(local: Local, tenant: str) -> list[date]:
    """Return the days that the tenant has events of, oldest first."""
    events = scan(tenant, "events", settings=LakeSettings(home=local.home))
    return sorted(events.select("event_day").unique().collect()["event_day"].to_list())


def activity(local: Local, tenant: str) -> pl.DataFrame:
    """Return the `activity` rollup in short: host and operation by hour."""
    frame = read(local, tenant, "activity").sort("hour", "hostname", "operation")
    return frame.select("hour", "hostname", "operation", "events", "rows", "paths", "denied")


def completeness(local: Local, tenant: str) -> pl.DataFrame:
    """Return the hours in which something was expected."""
    frame = read(local, tenant, "completeness").filter(pl.col("state") != "not_monitored").sort("hour", "hostname")
    lost = pl.sum_horizontal(pl.col("^lost_.*$")).alias("lost")
    return frame.select("hour", "hostname", "seen", "captured", "filtered", lost, "unaccounted", "state")


@dataclass(frozen=True)
class Verdict:
    """Whether both equations hold for every load, the accounting in a line, and what is missing by name."""

    holds: bool
    line: str
    missing: list[str]


def verdict(local: Local, tenant: str) -> Verdict:
    """Recompute both equations of the promise from the tables alone, over every load from its start."""
    events = scan(tenant, "events", settings=LakeSettings(home=local.home))
    ledger, quarantine = read(local, tenant, "batches"), read(local, tenant, "quarantine")
    accounting = account(events, ledger, quarantine)
    holes = missing_batches(ledger)
    rows = missing_rows(events, ledger, quarantine, limit=20)
    names = [
        f"row {row['seq']} of CPU {row['cpu']} at agent {row['agent_id']}, load {row['load_id']}; "
        f"batch {row['batch_seq']} should have brought it"
        for row in rows.iter_rows(named=True)
    ]
    holds = bool(by_load(accounting)["holds"].all()) and holes.is_empty() and ledger.height > 0
    return Verdict(holds, f"Accounting: {accounting_line(accounting)}", names)


def summary(local: Local, tenant: str) -> str:
    """Return the newest summary's headline, who wrote it, and where its HTML lies."""
    newest = read(local, tenant, "summaries").sort("period_start", "revision").tail(1)
    delivered = read(local, tenant, "deliveries").sort("delivered_at").tail(1)
    if newest.is_empty() or delivered.is_empty():
        return "Summary: none was delivered"
    place = local.home / "outbox" / delivered["reference"][0]
    return f"Summary (by the {newest['writer'][0]} writer): {newest['headline'][0]}\n  {place}"
