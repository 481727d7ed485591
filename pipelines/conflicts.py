"""Conflicts: one batch's number with two contents, each of which is told once."""

from __future__ import annotations

import polars as pl

from tenancy.alarms import BATCH_CONFLICT, raise_alarm
from tenancy.database import Database


def alarm_of_conflicts(db: Database, tenant: str, batches: pl.DataFrame) -> int:
    """Raise an alarm for each batch of `batches` (the ledger's) that was set apart; return how many were new.

    One that was sent again, or that a second run looks at, is the same conflict: agent, load, number and digest tell.
    """
    if "conflict" not in batches["outcome"].to_list():
        return 0
    apart = batches.filter(pl.col("outcome") == "conflict").sort("received_at", "node", "segment_seq")
    found = 0
    for agent, load, number, digest in apart.select("agent_id", "load_id", "batch_seq", "digest").iter_rows():
        # As text: canonical JSON knows no integer past 2^53, and a sender's number may be one.
        detail = {"load_id": load, "batch_seq": str(number), "digest": digest}
        subject = f"{agent}/{load}/{number}/{digest}"
        found += raise_alarm(db, tenant, BATCH_CONFLICT, subject, agent, detail)
    return found
