"""Erasures: a tenant is refused from the first moment, its rows go, and what was deleted is kept in numbers.

An erasure that was cut off is gone on with: what it has found is written down before it is deleted, each once.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Table, delete, func, select, update
from sqlalchemy.orm import Session

from kaimon.base.acting import actor
from tenancy.api_tables import API_KEYS
from tenancy.audit import append
from tenancy.database import Database
from tenancy.epochs import bump_epoch
from tenancy.leases import LeaseHeldError, take
from tenancy.metadata import insert_into, select_record
from tenancy.people import forget_logins, forget_strangers
from tenancy.tables import (
    ENROLLMENT_TOKENS,
    ERASURE_REQUESTS,
    ERASURES,
    HOST_CREDENTIALS,
    HOSTS,
    SCHEMA,
    TENANTS,
)

REASONS: Final = ("request", "trial", "ended")
"""Why: somebody asked, 30 days after a trial's end, 30 days after a subscription's."""

_FOR_EVER_S: Final = 1e9
"""How long an erasure holds a tenant's lease: nobody writes its tables in the next thirty years."""


@dataclass(frozen=True)
class Erasure:
    """An erasure as it stands. `found` says by kind what was deleted; `receipt` is the SHA-256 of the receipt."""

    tenant_id: str
    erasure_id: str
    reason: str
    begun_by: str
    begun_at: datetime
    found: dict[str, Any]
    finished_at: datetime | None
    receipt: str | None


class WithdrawnError(ValueError):
    """The request that an erasure was to carry out does not stand any more."""


def get_erasure(db: Database, tenant_id: str) -> Erasure | None:
    """Return a tenant's erasure, None if none was ever begun."""
    with db.reading() as session:
        row = session.execute(select_record(Erasure, ERASURES).where(ERASURES.c.tenant_id == tenant_id)).first()
        return None if row is None else Erasure(*row)


def list_erasures(db: Database) -> list[Erasure]:
    """Return every erasure in the order in which they were begun."""
    with db.reading() as session:
        rows = session.execute(select_record(Erasure, ERASURES).order_by(ERASURES.c.begun_at, ERASURES.c.tenant_id))
        return [Erasure(*row) for row in rows]


def begin(db: Database, tenant_id: str, lease: str, reason: str = "request", *, asked: bool = False) -> Erasure:
    """Refuse a tenant from now on, and take the lease of its tables for ever; one that was begun is returned as it is.

    Its tokens, hosts and credentials are revoked: every ingest worker knows within a second. `asked`: only if the
    tenant's own request still stands.

    Raises:
        WithdrawnError: it does not; nothing was begun.
        ValueError: there is no such tenant.
        LeaseHeldError: somebody writes its tables; nothing was begun.
    """
    with db.transaction() as session:
        known = session.execute(select_record(Erasure, ERASURES).where(ERASURES.c.tenant_id == tenant_id)).first()
        if known is not None:
            return Erasure(*known)
        if asked:
            # FOR UPDATE: whoever withdraws it meanwhile has done so before this, or is told that it has begun.
            stands = select(ERASURE_REQUESTS.c.tenant_id).where(ERASURE_REQUESTS.c.tenant_id == tenant_id)
            if session.execute(stands.with_for_update()).first() is None:
                raise WithdrawnError(f"the erasure of {tenant_id!r} was withdrawn")
        erasure = Erasure(tenant_id, f"ers_{secrets.token_hex(8)}", reason, actor().who, db.clock(), {}, None, None)
        end = (
            update(TENANTS)
            .where(TENANTS.c.tenant_id == tenant_id)
            .values(subscription="ended", subscription_since=erasure.begun_at)
        )
        if session.execute(end.returning(TENANTS.c.tenant_id)).first() is None:
            raise ValueError(f"there is no tenant {tenant_id!r}")
        if take(db, session, lease, f"erasure {erasure.erasure_id}", _FOR_EVER_S) is None:
            raise LeaseHeldError(f"lease {lease!r} is held by another")
        session.execute(insert_into(ERASURES, db.dialect).values(**vars(erasure)))
        for table, mine in _tokens(tenant_id):
            now = {"revoked_at": erasure.begun_at}
            session.execute(update(table).where(mine, table.c.revoked_at.is_(None)).values(now))
        append(db, session, tenant_id, "tenant.erase.begin", erasure.erasure_id, reason=reason)
        bump_epoch(session)
    return erasure


def note(db: Database, tenant_id: str, change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """Change what an erasure has found, durably; return it. `change` must come to nothing when it is done again."""
    with db.transaction() as session:
        return _note(session, tenant_id, change)


def rows_of(db: Database, tenant_id: str) -> dict[str, int]:
    """Return how many rows of the control database are a tenant's, by table."""
    with db.reading() as session:
        return {
            table.name: int(session.execute(select(func.count()).select_from(table).where(mine)).scalar_one())
            for table, mine in _rows(tenant_id)
        }


def remove_rows(db: Database, tenant_id: str) -> None:
    """Delete a tenant's rows and the names of the people whom only its chain knows; keep the chain itself.

    What was there is noted in the same transaction.
    """
    with db.transaction() as session:
        gone: dict[str, Any] = {}
        for table, mine in _rows(tenant_id):
            keys = session.execute(select(*table.primary_key.columns).where(mine)).all()
            names = sorted("\x1f".join(str(part) for part in key) for key in keys)
            digest = hashlib.sha256("".join(f"{name}\n" for name in names).encode()).hexdigest()
            if keys:
                gone[table.name] = {"rows": len(keys), "digest": digest}
            session.execute(delete(table).where(mine))
        if forgotten := forget_strangers(session, tenant_id):
            gone["people"] = {"names": forgotten}
        forget_logins(session)

        def change(found: dict[str, Any]) -> None:
            found.setdefault("control", gone)

        _note(session, tenant_id, change)
        bump_epoch(session)


def finish(db: Database, tenant_id: str, receipt: str) -> None:
    """Say that nothing is left, and put the receipt's digest on the tenant's chain; once."""
    with db.transaction() as session:
        open_ = (ERASURES.c.tenant_id == tenant_id, ERASURES.c.finished_at.is_(None))
        done = update(ERASURES).where(*open_).values(finished_at=db.clock(), receipt=receipt)
        erasure_id = session.execute(done.returning(ERASURES.c.erasure_id)).scalar()
        if erasure_id is not None:
            append(db, session, tenant_id, "tenant.erase", str(erasure_id), receipt=receipt)


def _note(session: Session, tenant_id: str, change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    mine = ERASURES.c.tenant_id == tenant_id
    found = dict(session.execute(select(ERASURES.c.found).where(mine).with_for_update()).scalar_one())
    change(found)
    session.execute(update(ERASURES).where(mine).values(found=found))
    return found


def _tokens(tenant_id: str) -> list[tuple[Table, ColumnElement[bool]]]:
    agents = select(HOSTS.c.agent_id).where(HOSTS.c.tenant_id == tenant_id)
    return [
        (HOST_CREDENTIALS, HOST_CREDENTIALS.c.agent_id.in_(agents)),
        (HOSTS, HOSTS.c.tenant_id == tenant_id),
        (ENROLLMENT_TOKENS, ENROLLMENT_TOKENS.c.tenant_id == tenant_id),
        (API_KEYS, API_KEYS.c.tenant_id == tenant_id),
    ]


def _rows(tenant_id: str) -> list[tuple[Table, ColumnElement[bool]]]:
    """Return each table that holds rows of a tenant and which they are, those that refer to others first.

    A new table that names tenants is here by itself.
    """
    named = [
        (table, table.c.tenant_id == tenant_id)
        for table in reversed(SCHEMA.sorted_tables)
        if "tenant_id" in table.c and table not in {ERASURES, ERASURE_REQUESTS}
    ]
    return [*_tokens(tenant_id)[:1], *named]
