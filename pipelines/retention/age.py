"""Days past a tenant's limit: taken out of every table, then their files and pages deleted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Final

from lake.holdings import Held, Holdings, holdings
from lake.schema import TABLES
from pipelines.tables import TenantTables
from tenancy.retention import note_dropped

LEDGER: Final = "batches"
_PAGE: Final = re.compile(r"(\d{4}-\d{2}-\d{2})-r\d+\.(?:html|txt|pdf)")


def drop_days(tables: TenantTables, before: date) -> dict[str, int]:
    """Delete a tenant's days before a date, and return how many objects that were, by table.

    The ledger keeps one day more: the first day that is kept is accounted for from its counters. The commit comes
    first, so a run that dies in between leaves files that no reader sees, and the next run finds them.

    Raises:
        lake.commits.CommitError: another writer came between; the next run goes on.
        lake.stores.StoreError: some files are left; the next run goes on.
        tenancy.leases.LeaseHeldError: the lease did not come free in time.
    """
    lake = holdings(tables.settings.lake_url, "lake")
    outbox = holdings(tables.settings.outbox_url, "outbox")
    limits = {name: before - timedelta(days=1) if name == LEDGER else before for name in TABLES}
    old = {name: [folder for day, folder in _partitions(tables, name) if day < limits[name]] for name in TABLES}
    pages = list(_pages(outbox, tables.tenant, before))
    gone = {name: sum(1 for folder in folders for _ in lake.held(folder)) for name, folders in old.items() if folders}
    if pages:
        gone["outbox"] = len(pages)
    if not gone:
        return {}
    # On the chain first: a run that dies in between has said what the next one does.
    note_dropped(tables.db, tables.tenant, before, gone)
    for name, folders in old.items():
        if folders:
            with tables.writer() as writer:
                writer.drop_days(name, limits[name])
        for folder in folders:
            lake.erase(folder)
    outbox.delete(pages)
    return gone


def _partitions(tables: TenantTables, name: str) -> Iterator[tuple[date, str]]:
    """Yield the day and the folder of each partition that has a folder."""
    column = TABLES[name].partition
    if column is None:
        return
    top = f"{tables.tenant}/{name}"
    for folder in holdings(tables.settings.lake_url, "lake").folders(top):
        key, _, value = folder.partition("=")
        if key == column:
            yield date.fromisoformat(value), f"{top}/{folder}"


def _pages(outbox: Holdings, tenant: str, before: date) -> Iterator[Held]:
    for page in outbox.held(tenant):
        found = _PAGE.fullmatch(page.key.rpartition("/")[2])
        if found is not None and date.fromisoformat(found[1]) < before:
            yield page
