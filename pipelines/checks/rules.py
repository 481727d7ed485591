"""The rules of a day: what each number of a tenant's metrics row must be, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Rule:
    """A metric that must be 0."""

    metric: str
    why: str


RULES: Final = (
    Rule("schema_problems", "columns of the table that are missing, too many or of another type"),
    Rule("nulls", "nulls in columns that may not hold one"),
    Rule("outside_domain", "values outside their column's enumeration or range"),
    Rule("outside_day", "rows whose time is not of the partition's day"),
    Rule("doubled_rows", "rows whose identity (agent, load, CPU, number) another row has"),
    Rule("rows_without_batch", "rows whose batch is not in the ledger as landed"),
    Rule("ledger_difference", "rows by which batches in the table differ from what the ledger says they brought"),
    Rule("rows_unaccounted", "row numbers that were given out, never came and are not known lost"),
    Rule("events_unaccounted", "events that were seen, never came and are not filtered, pending or known lost"),
    Rule("loads_unbalanced", "loads in which either equation does not hold on every CPU"),
    Rule("conflicting_batches", "batches whose number came twice with different contents"),
)
