"""Leases: one holder a name at a time, and a fencing number that tells an old holder from a new one.

A lease cannot keep a holder that was asleep from believing it still holds; the fence can: whoever writes carries it,
and the store refuses a smaller one. Expiry therefore only decides how soon another may try.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final

from sqlalchemy import Row, bindparam, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningInsert

from kaimon.base.logs import get_logger
from tenancy.database import Database
from tenancy.metadata import insert_into
from tenancy.tables import LEASES


class LeaseHeldError(Exception):
    """Somebody else holds the lease."""


@dataclass(frozen=True)
class Lease:
    """A lease as it was when taken or last renewed; `fence` is greater than any before it under this name."""

    name: str
    holder: str
    fence: int
    expires_at: datetime
    ttl_s: float


@dataclass
class HeldLease:
    """A lease that is being renewed; `lost` is set as soon as it may no longer be ours."""

    lease: Lease
    lost: threading.Event = field(default_factory=threading.Event)

    @property
    def fence(self) -> int:
        """The fencing number that every write must carry."""
        return self.lease.fence


def acquire(db: Database, name: str, holder: str, ttl_s: float) -> Lease | None:
    """Take a lease that is free, released or expired; None while another (or this) holder has it.

    Args:
        db: the control database; expiry is told by its clock.
        name: what is leased, such as `land/<tenant>`.
        holder: who takes it, for people to read.
        ttl_s: how long it lasts unless renewed.
    """
    with db.transaction() as session:
        return take(db, session, name, holder, ttl_s)


def take(db: Database, session: Session, name: str, holder: str, ttl_s: float) -> Lease | None:
    """Take a lease as `acquire` does, in the transaction of what it is taken for."""
    # The time after the lock was granted: one that waited for it must not judge by when it came.
    now = db.clock()
    expires_at = now + timedelta(seconds=ttl_s)
    fresh = {"holder": holder, "ttl_s": ttl_s, "expires_at": expires_at}
    row = session.execute(_LOCKED, {"lease": name}).first()
    if row is None:
        taken = session.execute(_first(db.dialect), {"name": name, **fresh, "fence": 1}).scalar()
    elif _free(row, now):
        taken = session.execute(
            _NEXT, {"lease": name, **{f"new_{key}": value for key, value in fresh.items()}}
        ).scalar()
    else:
        taken = None
    return None if taken is None else Lease(name, holder, int(taken), expires_at, ttl_s)


# Made once: landing takes, renews and gives back a lease for every few rows of a tenant.
_MINE: Final = (LEASES.c.name == bindparam("lease"), LEASES.c.fence == bindparam("number"))
_LOCKED: Final = select(LEASES).where(LEASES.c.name == bindparam("lease")).with_for_update()
_NEXT: Final = (
    update(LEASES)
    .where(LEASES.c.name == bindparam("lease"))
    .values({name: bindparam(f"new_{name}") for name in ("holder", "ttl_s", "expires_at")})
    .values(fence=LEASES.c.fence + 1)
    .returning(LEASES.c.fence)
)
_PROLONGED: Final = (
    update(LEASES)
    .where(*_MINE, LEASES.c.holder.is_not(None))
    .values(expires_at=bindparam("until"))
    .returning(LEASES.c.fence)
)
_RELEASED: Final = update(LEASES).where(*_MINE).values(holder=None, expires_at=bindparam("until"))


@cache
def _first(dialect: str) -> ReturningInsert[int]:
    return insert_into(LEASES, dialect).on_conflict_do_nothing().returning(LEASES.c.fence)


def holder_of(db: Database, name: str) -> str | None:
    """Return who holds a lease now, for people to read; None if nobody does."""
    with db.reading() as session:
        row = session.execute(select(LEASES).where(LEASES.c.name == name)).first()
    return None if row is None or _free(row, db.clock()) else str(row.holder)


def _free(row: Row[Any], now: datetime) -> bool:
    """Say whether a lease may be taken.

    An expiry more than two ttl ahead was written under a clock that has been set back since: without this rule a
    dead holder would keep its lease for as long as the clock jumped.
    """
    if row.holder is None or row.expires_at <= now:
        return True
    return bool(row.expires_at > now + timedelta(seconds=2 * row.ttl_s))


def renew(db: Database, lease: Lease) -> bool:
    """Prolong a lease by its ttl from now; False if it was released or another has taken it since.

    An expired lease that nobody took may be renewed: its fence is still the greatest.
    """
    with db.transaction() as session:
        until = db.clock() + timedelta(seconds=lease.ttl_s)
        mine = {"lease": lease.name, "number": lease.fence, "until": until}
        return session.execute(_PROLONGED, mine).first() is not None


def release(db: Database, lease: Lease) -> None:
    """Give a lease back; nothing happens if it is no longer ours. Its fence is remembered for ever."""
    with db.transaction() as session:
        session.execute(_RELEASED, {"lease": lease.name, "number": lease.fence, "until": db.clock()})


@contextmanager
def held_lease(db: Database, name: str, holder: str, ttl_s: float) -> Iterator[HeldLease]:
    """Hold a lease for the length of a `with`, renewing it in the background three times a ttl.

    `lost` is set when another took it, or when it could not be renewed for a whole ttl.

    Raises:
        LeaseHeldError: another holds it.
    """
    lease = acquire(db, name, holder, ttl_s)
    if lease is None:
        raise LeaseHeldError(f"lease {name!r} is held by another")
    held, stop = HeldLease(lease), threading.Event()
    renewer = threading.Thread(target=_keep, args=(db, held, stop), name=f"lease {name}", daemon=True)
    renewer.start()
    try:
        yield held
    finally:
        stop.set()
        renewer.join()
        _let_go(db, lease)


def _let_go(db: Database, lease: Lease) -> None:
    """Release if the database can be asked; else the lease ends by itself, and the work that was done stays done."""
    try:
        release(db, lease)
    except (DBAPIError, PoolTimeoutError) as error:
        get_logger(__name__).warning("lease_not_released", lease=lease.name, error=str(error))


def _keep(db: Database, held: HeldLease, stop: threading.Event) -> None:
    """Renew until told to stop or until the lease is lost."""
    lease, renewed_at = held.lease, time.monotonic()
    while not stop.wait(lease.ttl_s / 3):
        began = time.monotonic()
        try:
            still_mine = renew(db, lease)
        except (DBAPIError, PoolTimeoutError) as error:
            get_logger(__name__).warning("lease_not_renewed", lease=lease.name, error=str(error))
            still_mine = time.monotonic() - renewed_at < lease.ttl_s
        else:
            renewed_at = began
        if not still_mine:
            get_logger(__name__).error("lease_lost", lease=lease.name, holder=lease.holder, fence=lease.fence)
            held.lost.set()
            return
