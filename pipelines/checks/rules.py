"""The rules of a day: what each number of a tenant's metrics row must be, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pipelines.checks.rollups import KEYS


@dataclass(frozen=True)
class Rule:
    """A metric that must be 0; `table` is the one whose suite it is in. One that does not gate only warns."""

    metric: str
    why: str
    table: str = "events"
    gates: bool = True


RULES: Final = (
    Rule("schema_problems", "columns of the table that are missing, too many or of another type"),
    Rule("nulls", "nulls in columns that may not hold one"),
    Rule("outside_domain", "values outside their column's enumeration or range"),
    Rule("outside_day", "rows whose time is not of the partition's day"),
    Rule("doubled_rows", "rows whose identity (agent, load, CPU, number) another row has"),
    Rule("rows_without_batch", "rows whose batch is not in the ledger as landed"),
    Rule(
        "ledger_difference",
        "rows by which batches in the table differ from what the ledger says of them",
        table="batches",
    ),
    Rule("rows_unaccounted", "row numbers that were given out, never came and are not known lost", "batches"),
    Rule(
        "events_unaccounted",
        "events that were seen, never came, and are not filtered, pending or known lost",
        table="batches",
    ),
    Rule("loads_unbalanced", "loads in which either equation does not hold on every CPU", "batches"),
    Rule("conflicting_batches", "batches whose number came twice with different contents", "batches"),
    Rule("ledger_nulls", "nulls in columns of the ledger that may not hold one", "batches"),
    Rule("ledger_outside_domain", "outcomes that nobody knows, and counts below 0", "batches"),
    Rule(
        "unlanded_nodes", "ingest nodes with something staged before the day's end that does not land", table="batches"
    ),
    Rule("quarantine_nulls", "nulls in columns of the quarantine that may not hold one", "quarantine"),
    Rule("quarantine_outside_domain", "lines and batches numbered below 1, and lines without a reason", "quarantine"),
    Rule("quarantine_doubled", "lines that are there twice for the same reason", "quarantine"),
    Rule("hosts_nulls", "nulls in columns of the hosts that may not hold one", "hosts"),
    Rule("hosts_outside_domain", "hosts first seen after they were last, and hosts without a name", "hosts"),
    Rule("hosts_doubled", "hosts that are there more than once", "hosts"),
    Rule(
        "hosts_missing",
        "agents of which a batch landed that day, and that are not among the hosts; a landing that died is why, the "
        "next one mends it",
        "hosts",
        gates=False,
    ),
    Rule(
        "hosts_off_volume",
        "hosts with less than a tenth or more than ten times the events of their median day in four weeks",
        gates=False,
    ),
)
WARNINGS: Final = frozenset(rule.metric for rule in RULES if not rule.gates)
"""Rules that a day may break and still pass: somebody should look."""

_ROLLUPS: Final = {
    "schema": "columns that are missing or of another type",
    "nulls": "nulls in columns that may not hold one",
    "outside_domain": "values that no roll-up gives: enumerations, counts, hours, ranks, patterns",
    "outside_day": "rows of another day's hours or times",
    "doubled": "rows whose key another row has",
    "difference": "by how much its sums differ from the day's events",
}
_SUMS: Final = {
    "completeness": "events by which rows differ from what was seen in their hour",
    "new_behaviour": "rows that `sensitive` does not have for the day",
}
"""What `difference` is of a rollup that is no sum over the day's events."""

ROLLUP_RULES: Final = tuple(
    Rule(f"{table}_{name}", _SUMS.get(table, why) if name == "difference" else why, table)
    for table in KEYS
    for name, why in _ROLLUPS.items()
)
"""The rules of what is computed of a day's events, once the day itself has passed; all of them gate."""
