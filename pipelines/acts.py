"""The tenant's audit chain as one of its tables, so that what was done in kaimon itself can be queried as events are.

The chain stays where it is, and is what counts; the copy holds each record whole, so that it verifies by itself.
"""

from __future__ import annotations

from datetime import datetime

import polars as pl

from pipelines.frames import conform
from pipelines.tables import TenantTables
from tenancy.audit import AuditRecord, read_after


def copy_acts(tables: TenantTables) -> int:
    """Append to `acts` what came on the tenant's chain since the last time, and return how many records that were.

    Raises:
        lake.commits.CommitError: another writer came between.
        tenancy.leases.LeaseHeldError: the lease did not come free in time.
    """
    if not read_after(tables.db, tables.tenant, _last(tables)):
        return 0
    with tables.writer() as writer:
        # Once more, now that nobody else copies.
        new = read_after(tables.db, tables.tenant, _last(tables))
        if new:
            writer.append("acts", conform(pl.DataFrame([_row(record) for record in new]), "acts"))
    return len(new)


def _last(tables: TenantTables) -> int:
    return int(tables.unlocked("acts").scan("acts").select(pl.col("seq").max().fill_null(0)).collect().item())


def _row(record: AuditRecord) -> dict[str, object]:
    told = record.content
    at = datetime.fromisoformat(told["at"])
    return {
        "seq": record.seq,
        "at": at,
        "act": told["act"],
        "actor": told["actor"] or "",
        "subject": told["subject"],
        "record": record.body,
        "digest": record.digest,
        "act_day": at.date(),
    }
