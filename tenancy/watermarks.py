"""Watermarks: how far each tenant's landing has come, and what has waited for it too long."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from typing import Any, Final

from sqlalchemy import Insert, case

from tenancy.database import Database
from tenancy.hints import all_hints
from tenancy.metadata import insert_into, select_record
from tenancy.tables import WATERMARKS

_LEEWAY: Final = timedelta(seconds=1)


@dataclass(frozen=True)
class Watermark:
    """The newest arrival that has landed, and when it had; lines quarantined of what arrived on `quarantine_day`."""

    tenant_id: str
    received_at: datetime
    landed_at: datetime
    quarantine_day: date | None = None
    quarantined: int = 0


def note_landed(
    db: Database, tenant_id: str, received_at: datetime, quarantined: tuple[date, int] | None = None
) -> None:
    """Say that what had arrived by a moment has landed; an earlier moment takes nothing back.

    Args:
        db: the control database.
        tenant_id: whose.
        received_at: the newest arrival among what landed.
        quarantined: a day of arrival and how many lines of it are in quarantine in all; None leaves what is known.
    """
    day, lines = quarantined or (None, 0)
    row = Watermark(tenant_id, received_at, db.clock(), day, lines)
    with db.transaction() as session:
        session.execute(_noting(db.dialect, quarantined is not None), vars(row))


@cache
def _noting(dialect: str, with_quarantined: bool) -> Insert:
    new = insert_into(WATERMARKS, dialect)
    known = WATERMARKS.c.received_at
    change: dict[str, Any] = {
        "received_at": case((known > new.excluded.received_at, known), else_=new.excluded.received_at),
        "landed_at": new.excluded.landed_at,
    }
    if with_quarantined:
        change |= {"quarantine_day": new.excluded.quarantine_day, "quarantined": new.excluded.quarantined}
    return new.on_conflict_do_update(index_elements=[WATERMARKS.c.tenant_id], set_=change)


def watermark_of(db: Database, tenant_id: str) -> Watermark | None:
    """Return one tenant's watermark, None if nothing has landed."""
    with db.reading() as session:
        wanted = select_record(Watermark, WATERMARKS).where(WATERMARKS.c.tenant_id == tenant_id)
        row = session.execute(wanted).first()
    return None if row is None else Watermark(*row)


def watermarks(db: Database) -> dict[str, Watermark]:
    """Return every tenant's watermark."""
    with db.reading() as session:
        rows = session.execute(select_record(Watermark, WATERMARKS).order_by(WATERMARKS.c.tenant_id))
        return {row.tenant_id: Watermark(*row) for row in rows}


def waiting(db: Database, longer_than: timedelta = _LEEWAY) -> dict[str, timedelta]:
    """Return the tenants of which something has been staged for longer than that and has not landed, and for how long.

    By the hints, which ingest gives and landing takes back; one that was lost is found by landing's full listing.
    """
    now, found = db.clock(), dict[str, timedelta]()
    for hint in all_hints(db):
        lag = now - (hint.since or hint.updated_at)
        if lag > longer_than:
            found[hint.tenant_id] = max(lag, found.get(hint.tenant_id, lag))
    return found
