"""What a quarantined line says of itself: its CPU, number and count, where it can still be read."""

from __future__ import annotations

import json
from typing import Any, Final

import polars as pl

from kaimon.base.escape import unescape
from lake.quarantined import REPLAYED, still_there
from pipelines.checks.ledger import BATCH

STAGED: Final = [*BATCH, "node", "segment_seq"]
"""A batch as staged: the same number can arrive twice with different contents, and only one of them lands."""

CONFLICT: Final = "batch_conflict"
"""The reason landing gives for the lines of a batch whose number had landed with other contents."""

_NUMBERS: Final = {"cpu": pl.Int32, "seq": pl.Int64, "count": pl.Int64}
LINES: Final = {
    "agent_id": pl.String,
    "load_id": pl.String,
    "batch_seq": pl.Int64,
    "node": pl.String,
    "segment_seq": pl.Int64,
    **_NUMBERS,
}


def released(quarantine: pl.DataFrame) -> pl.DataFrame:
    """Return how many lines of each batch have left quarantine: `BATCH`, `released`."""
    return quarantine.filter(pl.col("code") == REPLAYED).group_by(BATCH).agg(released=pl.len().cast(pl.Int64))


def read_quarantined(quarantine: pl.DataFrame) -> pl.DataFrame:
    """Return one row a line in quarantine: `STAGED`, and `cpu`, `seq`, `count`, all three null where it is unreadable.

    A line that arrived was delivered, whatever it says. One that cannot be read counts as one row and one event of
    its load, on a CPU that nobody knows. Lines of a conflicting batch belong to no landed one and are left out.
    """
    quarantine = still_there(quarantine.filter(pl.col("code").ne_missing(CONFLICT)))
    numbers = pl.DataFrame([_parse(raw) for raw in quarantine["raw"]], schema=_NUMBERS, orient="row")
    return quarantine.select(STAGED).hstack(numbers)


def _parse(raw: str) -> tuple[int | None, int | None, int | None]:
    try:
        line: Any = json.loads(unescape(raw))
        cpu, seq, count = line["cpu"], line["seq"], line["count"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None, None, None
    if any(type(number) is not int for number in (cpu, seq, count)):
        return None, None, None
    if not (0 <= cpu < 2**31 and 0 <= seq < 2**63 and 1 <= count < 2**63):
        return None, None, None
    return cpu, seq, count
