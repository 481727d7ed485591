"""Hints: how far each ingest node has staged for each tenant.

A hint saves the reader a listing; it may be late, lost or ahead of its segment, and a full listing is the truth.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, case, delete, update

from tenancy.database import Database
from tenancy.metadata import insert_into, select_record
from tenancy.tables import STAGED_HINTS


@dataclass(frozen=True)
class Hint:
    """A node has staged segments up to `seq` for a tenant; nothing of them has waited for longer than from `since`."""

    tenant_id: str
    node: str
    seq: int
    updated_at: datetime
    since: datetime | None = None


def mark_staged(db: Database, staged: Iterable[tuple[str, str, int]]) -> None:
    """Say that segments (tenant, node, seq) are durable; a smaller seq never takes back a greater one."""
    latest: dict[tuple[str, str], int] = {}
    for tenant_id, node, seq in staged:
        latest[tenant_id, node] = max(seq, latest.get((tenant_id, node), seq))
    if not latest:
        return
    now = db.clock()
    # In key order, so that two writers never wait for each other crosswise.
    rows = [
        {"tenant_id": tenant_id, "node": node, "seq": seq, "updated_at": now, "since": now}
        for (tenant_id, node), seq in sorted(latest.items())
    ]
    new = insert_into(STAGED_HINTS, db.dialect).values(rows)
    known = STAGED_HINTS.c.seq
    upsert = new.on_conflict_do_update(
        index_elements=[STAGED_HINTS.c.tenant_id, STAGED_HINTS.c.node],
        set_={"seq": case((known > new.excluded.seq, known), else_=new.excluded.seq), "updated_at": now},
    )
    with db.transaction() as session:
        session.execute(upsert)


def staged_since(db: Database, moment: datetime) -> list[Hint]:
    """Return the hints that were given at or after `moment`, by tenant and node."""
    with db.reading() as session:
        wanted = select_record(Hint, STAGED_HINTS).where(STAGED_HINTS.c.updated_at >= moment)
        rows = session.execute(wanted.order_by(STAGED_HINTS.c.tenant_id, STAGED_HINTS.c.node))
        return [Hint(*row) for row in rows]


def all_hints(db: Database, tenant_id: str | None = None) -> list[Hint]:
    """Return every hint, or every one of a tenant, by tenant and node."""
    with db.reading() as session:
        rows = session.execute(_EVERY) if tenant_id is None else session.execute(_ITS_OWN, {"tenant": tenant_id})
        return [Hint(*row) for row in rows]


def drop(db: Database, tenant_id: str, node: str, seq: int) -> None:
    """Forget a node's hint once everything up to `seq` has landed; one that is ahead of it stays, to wait from now."""
    with db.transaction() as session:
        gone = session.execute(_LANDED, {"tenant": tenant_id, "at": node, "upto": seq})
        if not getattr(gone, "rowcount", 0):
            session.execute(_AHEAD, {"tenant": tenant_id, "at": node, "now": db.clock()})


# Made once: landing needs them for every few rows of a tenant.
_EVERY: Final = select_record(Hint, STAGED_HINTS).order_by(STAGED_HINTS.c.tenant_id, STAGED_HINTS.c.node)
_ITS_OWN: Final = _EVERY.where(STAGED_HINTS.c.tenant_id == bindparam("tenant"))
_ONE: Final = (STAGED_HINTS.c.tenant_id == bindparam("tenant"), STAGED_HINTS.c.node == bindparam("at"))
_LANDED: Final = delete(STAGED_HINTS).where(*_ONE, STAGED_HINTS.c.seq <= bindparam("upto"))
_AHEAD: Final = update(STAGED_HINTS).where(*_ONE).values(since=bindparam("now"))
