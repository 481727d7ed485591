"""Tenants: who the data belongs to and what their subscription lets them do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import update

from tenancy.audit import append
from tenancy.database import Database
from tenancy.epochs import bump_epoch
from tenancy.tables import TENANTS, insert_into, select_record

TENANT_ID: Final = re.compile(r"[a-z][a-z0-9-]{1,38}[a-z0-9]")
SUBSCRIPTIONS: Final = ("trial", "active", "past_due", "ended")
"""`ended` refuses enrollments and batches; the others do not."""


@dataclass(frozen=True)
class Tenant:
    """A tenant as it is now."""

    tenant_id: str
    name: str
    subscription: str
    created_at: datetime


def create_tenant(db: Database, tenant_id: str, name: str | None = None, subscription: str = "trial") -> Tenant:
    """Make a tenant; its name is its id where none is given.

    Raises:
        ValueError: a bad id or subscription, or an id that is taken.
    """
    if not TENANT_ID.fullmatch(tenant_id):
        raise ValueError(
            f"tenant id {tenant_id!r}: want 3 to 40 lowercase letters, digits and hyphens, "
            "first a letter, last a letter or digit"
        )
    _check_subscription(subscription)
    tenant = Tenant(tenant_id, name or tenant_id, subscription, db.clock())
    with db.transaction() as session:
        new = insert_into(TENANTS, db.dialect).values(**vars(tenant)).on_conflict_do_nothing()
        if session.execute(new.returning(TENANTS.c.tenant_id)).first() is None:
            raise ValueError(f"tenant {tenant_id!r} exists already")
        append(db, session, tenant_id, "tenant.create", tenant_id, subscription=subscription)
    return tenant


def list_tenants(db: Database) -> list[Tenant]:
    """Return every tenant, by id."""
    with db.reading() as session:
        rows = session.execute(select_record(Tenant, TENANTS).order_by(TENANTS.c.tenant_id))
        return [Tenant(*row) for row in rows]


def get_tenant(db: Database, tenant_id: str) -> Tenant | None:
    """Return one tenant, None if there is none of that id."""
    with db.reading() as session:
        row = session.execute(select_record(Tenant, TENANTS).where(TENANTS.c.tenant_id == tenant_id)).first()
        return None if row is None else Tenant(*row)


def set_subscription(db: Database, tenant_id: str, state: str) -> None:
    """Change what a tenant may do; every worker knows within a second.

    Raises:
        ValueError: no such tenant, or no such state.
    """
    _check_subscription(state)
    with db.transaction() as session:
        change = update(TENANTS).where(TENANTS.c.tenant_id == tenant_id).values(subscription=state)
        if session.execute(change.returning(TENANTS.c.tenant_id)).first() is None:
            raise ValueError(f"there is no tenant {tenant_id!r}")
        append(db, session, tenant_id, "subscription.change", tenant_id, subscription=state)
        bump_epoch(session)


def _check_subscription(state: str) -> None:
    if state not in SUBSCRIPTIONS:
        raise ValueError(f"subscription {state!r}: want one of {', '.join(SUBSCRIPTIONS)}")
