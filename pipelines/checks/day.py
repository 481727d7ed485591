"""A tenant's day against its rules: the metrics row, from the tables."""

from __future__ import annotations

from datetime import date
from typing import Any

from pipelines.checks.accounting import account
from pipelines.checks.metrics import event_metrics, ledger_metrics, rows_without_batch
from pipelines.ledger_window import landed_ledger, read_window
from pipelines.rollups.completeness import arrivals
from pipelines.tables import TenantTables


def day_metrics(tables: TenantTables, day: date) -> dict[str, Any]:
    """Return the metrics row of a tenant's day: `tenant`, and one number a rule of `pipelines.checks.rules`."""
    snapshot = tables.snapshot("events", "batches", "quarantine", "hosts")
    today = snapshot.scan("events", day, day)
    metrics = event_metrics(today)
    if metrics["schema_problems"]:
        return {"tenant": tables.tenant, **metrics}
    window = read_window(snapshot, day)
    events, quarantine = window.events(snapshot), window.quarantine(snapshot)
    accounting = account(events, window.cut, quarantine, window.baseline)
    return {
        "tenant": tables.tenant,
        **metrics,
        "rows_without_batch": rows_without_batch(today, landed_ledger(snapshot, day)),
        **ledger_metrics(
            snapshot.scan("batches", day, day).collect(), window.cut, arrivals(events, quarantine), accounting
        ),
    }
