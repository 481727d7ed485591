"""The night's vacuum: files that a seal or a rollup has replaced, and those that a dead process left, are deleted."""

from __future__ import annotations

from datetime import timedelta

from lake.schema import TABLES
from lake.vacuum import KEPT, delete_unneeded, unneeded
from pipelines.tables import TenantTables
from tenancy.retention import note_act


def vacuum(tables: TenantTables, kept: timedelta = KEPT) -> dict[str, int]:
    """Delete what no version of a tenant's tables within `kept` names, and say how much that was.

    The lease is taken for a table that has something to delete, and no longer.

    Raises:
        lake.commits.CommitError: another writer took over; the next run goes on.
        lake.stores.StoreError: some files are left; the next run goes on.
        tenancy.leases.LeaseHeldError: the lease did not come free in time; the next run goes on.
    """
    now = tables.db.clock()
    files = size = 0
    for table in TABLES:
        found = unneeded(tables.tenant, table, now, tables.settings, kept)
        if not found.files:
            continue
        # On the chain first: a run that dies in between has said what it was about to do.
        note_act(tables.db, tables.tenant, "retention.vacuum", files=len(found.files), bytes=found.bytes)
        with tables.writer() as writer:
            gone = delete_unneeded(writer, table, now, kept)
        files, size = files + len(gone.files), size + gone.bytes
    return {"files_vacuumed": files, "bytes_vacuumed": size}
