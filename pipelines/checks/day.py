"""A tenant's day against its rules: the metrics row, from the tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Any

from pipelines.checks.accounting import account
from pipelines.checks.metrics import event_metrics, ledger_metrics, rows_without_batch
from pipelines.clones import Clone, find_clones
from pipelines.ledger_window import read_window, sources
from pipelines.rollups.completeness import arrivals
from pipelines.tables import TenantTables


@dataclass(frozen=True)
class Measured:
    """A tenant's day: `row` is `tenant` and one number a rule of `pipelines.checks.rules`.

    `clones` break no rule: every event is accounted for, load by load. But which machine it came from is not known.
    """

    row: dict[str, Any]
    clones: list[Clone] = field(default_factory=list)


def measure_day(tables: TenantTables, day: date) -> Measured:
    """Measure a tenant's day."""
    snapshot = tables.snapshot("events", "batches", "quarantine", "hosts")
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
        **ledger_metrics(arrived, window.cut, arrivals(events, quarantine), accounting),
    }
    return Measured(row, find_clones(arrived))
