"""Staged segments: deleted two weeks after they landed, never before they did, and told of when they do not."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import polars as pl

from lake.commits import Writer
from lake.holdings import Held, holdings
from lake.reads import scan
from lake.segments import parse_segment_key
from lake.settings import LakeSettings
from tenancy.alarms import UNLANDED, raise_alarm
from tenancy.database import Database
from tenancy.retention import note_act

KEPT: Final = timedelta(days=14)
"""How long a segment stays after it landed: so long a day can be landed again from it."""
FORGOTTEN: Final = timedelta(days=60)
"""How long one stays that landed, but whose ledger rows are gone: nobody can say when it landed."""
PATIENCE: Final = timedelta(hours=24)


@dataclass
class Staged:
    """A tenant's segments: those to delete, and by node those that wait for too long, with the oldest's time."""

    old: list[Held] = field(default_factory=list)
    waiting: dict[str, tuple[int, datetime]] = field(default_factory=dict)


def look(tenant: str, now: datetime, settings: LakeSettings) -> Staged:
    """Sort a tenant's segments out; nothing is changed.

    A segment has landed if the ledger's commits have reached its number; when it did, the ledger's rows say. What is
    not a segment is left alone.

    Raises:
        lake.stores.StoreError: the staging store cannot be asked.
    """
    store = holdings(settings.staging_url, "staging")
    nodes = store.folders(tenant)
    reached = Writer(tenant, 0, settings).versions("batches", nodes)
    landed_at = _landings(tenant, settings)
    staged = Staged()
    for held in store.held(tenant):
        try:
            _, node, seq = parse_segment_key(held.key)
        except ValueError:
            continue
        if seq <= reached.get(node, 0):
            landed = landed_at.get((node, seq))
            due = held.modified + FORGOTTEN if landed is None else landed + KEPT
            if now >= due:
                staged.old.append(held)
        elif now - held.modified >= PATIENCE:
            count, oldest = staged.waiting.get(node, (0, held.modified))
            staged.waiting[node] = count + 1, min(oldest, held.modified)
    return staged


def purge(db: Database, tenant: str, settings: LakeSettings) -> dict[str, int]:
    """Delete a tenant's segments that are due and raise an alarm for each node whose segments do not land.

    Raises:
        lake.stores.StoreError: the staging store failed; the next run goes on.
    """
    staged = look(tenant, db.clock(), settings)
    if staged.old:
        size = sum(held.size for held in staged.old)
        note_act(db, tenant, "retention.staging", segments=len(staged.old), bytes=size)
        holdings(settings.staging_url, "staging").delete(staged.old)
    for node, (count, oldest) in sorted(staged.waiting.items()):
        detail = {"node": node, "segments": count, "oldest": oldest.isoformat(timespec="seconds")}
        raise_alarm(db, tenant, UNLANDED, node, node, detail)
    waiting = sum(count for count, _ in staged.waiting.values())
    return {"segments_deleted": len(staged.old), "segments_waiting": waiting}


def _landings(tenant: str, settings: LakeSettings) -> dict[tuple[str, int], datetime]:
    """Return when each segment of the ledger landed, by node and number."""
    rows = (
        scan(tenant, "batches", settings=settings)
        .group_by("node", "segment_seq")
        .agg(pl.col("landed_at").max())
        .collect()
    )
    return {(node, seq): at for node, seq, at in rows.iter_rows()}
