"""Use: how many events each tenant has sent this UTC day, counted in memory and added up in the database now and then.

Each worker knows what all had written down when it last wrote, and what itself took since. With several workers the
sum therefore lags by what the others took within `usage_every_s`; it is never a write, or a question, per request.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from math import ceil
from typing import Final

from sqlalchemy import select

from tenancy.database import Database
from tenancy.metadata import insert_into
from tenancy.tables import TENANT_USE

_CHUNK: Final = 200


class DailyUse:
    """One worker's count. Thread-safe."""

    def __init__(self, db: Database, every_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Begin at nothing; `every_s` lies between two writes."""
        self._db = db
        self._every_s = every_s
        self._monotonic = monotonic
        self._kept_at = monotonic()
        self._lock = threading.Lock()
        self._day = self._today()
        self._written: dict[str, int] = {}
        self._fresh: dict[tuple[str, date], int] = {}

    def add(self, tenant_id: str, events: int) -> None:
        """Count events that were taken just now."""
        key = (tenant_id, self._today())
        with self._lock:
            self._fresh[key] = self._fresh.get(key, 0) + events

    def seen(self, tenant_id: str, day: date, events: int) -> None:
        """Learn what the database says of a day, from whoever was asking it anyway."""
        with self._lock:
            self._turn()
            if day == self._day:
                self._written[tenant_id] = max(events, self._written.get(tenant_id, 0))

    def today(self, tenant_id: str) -> int:
        """Return how many events a tenant sent today, as far as this worker knows."""
        with self._lock:
            self._turn()
            return self._written.get(tenant_id, 0) + self._fresh.get((tenant_id, self._day), 0)

    def keep(self, *, now: bool = False) -> None:
        """Write down what was counted, and learn what the others have, if it is time to.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the database cannot be asked; nothing is forgotten.
        """
        began = self._monotonic()
        if not now and began - self._kept_at < self._every_s:
            return
        with self._lock:
            counted = sorted((key, events) for key, events in self._fresh.items() if events)
        for first in range(0, len(counted), _CHUNK):
            self._write(counted[first : first + _CHUNK])
        self._kept_at = began

    def _write(self, counted: list[tuple[tuple[str, date], int]]) -> None:
        # In key order, so that two writers never wait for each other crosswise.
        rows = [{"tenant_id": tenant, "day": day, "events": events} for (tenant, day), events in counted]
        new = insert_into(TENANT_USE, self._db.dialect).values(rows)
        upsert = new.on_conflict_do_update(
            index_elements=[TENANT_USE.c.tenant_id, TENANT_USE.c.day],
            set_={"events": TENANT_USE.c.events + new.excluded.events},
        ).returning(TENANT_USE.c.tenant_id, TENANT_USE.c.day, TENANT_USE.c.events)
        with self._db.transaction() as session:
            sums = session.execute(upsert).all()
        with self._lock:
            self._turn()
            for key, events in counted:
                self._fresh[key] -= events
                if not self._fresh[key]:
                    del self._fresh[key]
            self._written |= {tenant: events for tenant, day, events in sums if day == self._day}

    def _turn(self) -> None:
        """Begin a new day, if it is one; what is left of the old one is still to be written."""
        if (today := self._today()) != self._day:
            self._day = today
            self._written.clear()

    def _today(self) -> date:
        return self._db.clock().astimezone(UTC).date()


def events_of(db: Database, tenant_id: str, day: date) -> int:
    """Return how many events a tenant sent on a UTC day, as far as its workers have written that down."""
    mine = (TENANT_USE.c.tenant_id == tenant_id, TENANT_USE.c.day == day)
    with db.reading() as session:
        return int(session.execute(select(TENANT_USE.c.events).where(*mine)).scalar() or 0)


def seconds_left(now: datetime) -> int:
    """Return how many seconds are left of the UTC day, at least 1."""
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return max(1, ceil((midnight - now).total_seconds()))
