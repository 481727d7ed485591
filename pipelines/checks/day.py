"""A tenant's day against its rules: the metrics row, from the tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from pipelines.checks.accounting import account
from pipelines.checks.metrics import event_metrics, ledger_metrics, ledger_values, rows_without_batch
from pipelines.checks.side_tables import host_metrics, quarantine_metrics
from pipelines.checks.volume import hosts_off_volume
from pipelines.clones import Clone, find_clones
from pipelines.ledger_window import read_window, sources
from pipelines.rollups.completeness import arrivals
from pipelines.settings import AlertSettings
from pipelines.tables import TenantTables
from tenancy.hints import all_hints


@dataclass(frozen=True)
class Measured:
    """A tenant's day: `row` is `tenant` and one number a rule of `pipelines.checks.rules`.

    `clones` break no rule: every event is accounted for, load by load. But which machine it came from is not known.
    """

    row: dict[str, Any]
    clones: list[Clone] = field(default_factory=list)


def measure_day(tables: TenantTables, day: date) -> Measured:
    """Measure a tenant's day."""
    snapshot = tables.snapshot("events", "batches", "quarantine", "hosts", "activity")
    today = snapshot.scan("events", day, day)
    metrics = event_metrics(today)
    if metrics["schema_problems"]:
        return Measured({"tenant": tables.tenant, **metrics})
    window = read_window(snapshot, day)
    events, quarantine = window.events(snapshot), window.quarantine(snapshot)
    accounting = account(events, window.cut, quarantine, window.baseline)
    arrived = snapshot.scan("batches", day, day).collect()
    row = {
        "tenant": tables.tenant,
        **metrics,
        "rows_without_batch": rows_without_batch(today, sources(snapshot, day)),
        **ledger_values(arrived),
        "unlanded_nodes": unlanded_nodes(tables, day),
        "hosts_off_volume": hosts_off_volume(snapshot, day),
        **quarantine_metrics(snapshot.scan("quarantine", day, day).collect()),
        **host_metrics(snapshot.scan("hosts").collect(), arrived),
        **ledger_metrics(arrived, window.cut, arrivals(events, quarantine), accounting),
    }
    return Measured(row, find_clones(arrived))


def unlanded_nodes(tables: TenantTables, day: date) -> int:
    """Count the nodes of which something that may be of the day, or of one before, waits for landing for too long."""
    now, end = tables.db.clock(), datetime.combine(day + timedelta(days=1), time(), UTC)
    stale = now - timedelta(seconds=AlertSettings().alert_stale_s)
    since = [hint.since or hint.updated_at for hint in all_hints(tables.db, tables.tenant)]
    return sum(moment < min(stale, end) for moment in since)
