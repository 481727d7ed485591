"""Tenants: who the data belongs to, and what was agreed with them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypedDict, Unpack

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from tenancy.audit import append
from tenancy.database import Database
from tenancy.epochs import bump_epoch
from tenancy.metadata import insert_into, select_record
from tenancy.settings import TenancySettings
from tenancy.subscriptions import COLUMNS, STATES, moment
from tenancy.tables import ERASURES, HOSTS, TENANTS
from tenancy.usage import events_of

TENANT_ID: Final = re.compile(r"[a-z][a-z0-9-]{1,38}[a-z0-9]")
_MOST: Final = {"max_hosts": 10**9, "max_daily_events": 10**15}
"""What their columns, and JSON, can hold."""


@dataclass(frozen=True)
class Tenant:
    """A tenant as it is stored: `subscription` is the state that was set, limits those that were agreed."""

    tenant_id: str
    name: str
    subscription: str
    created_at: datetime
    subscription_since: datetime | None = None
    trial_ends_at: datetime | None = None
    grace_ends_at: datetime | None = None
    max_hosts: int | None = None
    max_daily_events: int | None = None
    keep_days: int | None = None
    kms_key: str | None = None


@dataclass(frozen=True)
class Use:
    """What a tenant uses of what it may: hosts that are not revoked, events of this UTC day."""

    hosts: int
    events_today: int


class Terms(TypedDict, total=False):
    """What may be agreed beside the state; a limit of None is the state's own."""

    trial_ends_at: datetime
    grace_ends_at: datetime
    max_hosts: int | None
    max_daily_events: int | None


def create_tenant(
    db: Database, tenant_id: str, name: str | None = None, subscription: str = "trial", **terms: Unpack[Terms]
) -> Tenant:
    """Make a tenant; its name is its id where none is given.

    Raises:
        ValueError: a bad id, subscription or terms, or an id that is taken, or was before its tenant was erased.
    """
    if not TENANT_ID.fullmatch(tenant_id):
        raise ValueError(
            f"tenant id {tenant_id!r}: want 3 to 40 lowercase letters, digits and hyphens, "
            "first a letter, last a letter or digit"
        )
    now = db.clock()
    agreed = _agree(None, subscription, terms, now, db.settings)
    tenant = Tenant(tenant_id=tenant_id, name=name or tenant_id, created_at=now, **agreed)
    with db.transaction() as session:
        _refuse_erased(session, tenant_id)
        new = insert_into(TENANTS, db.dialect).values(**vars(tenant)).on_conflict_do_nothing()
        if session.execute(new.returning(TENANTS.c.tenant_id)).first() is None:
            raise ValueError(f"tenant {tenant_id!r} exists already")
        append(db, session, tenant_id, "tenant.create", tenant_id, **_told(agreed))
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


def use_of(db: Database, tenant_id: str) -> Use:
    """Return what a tenant uses; of events what its workers have written down so far."""
    mine = (HOSTS.c.tenant_id == tenant_id, HOSTS.c.revoked_at.is_(None))
    with db.reading() as session:
        hosts = int(session.execute(select(func.count()).select_from(HOSTS).where(*mine)).scalar_one())
    return Use(hosts, events_of(db, tenant_id, db.clock().date()))


def set_subscription(db: Database, tenant_id: str, state: str | None = None, **terms: Unpack[Terms]) -> None:
    """Change a tenant's state (the same if None) and terms; every worker knows within a second.

    A trial that has an end keeps it, and so does a grace that runs; each gets the default where it has none.

    Raises:
        ValueError: no such tenant or state, a date that its state has no use for, or a trial that is over.
    """
    with db.transaction() as session:
        change_subscription(db, session, tenant_id, state, terms)


def change_subscription(  # noqa: PLR0917 - a transaction, and what to do in it
    db: Database, session: Session, tenant_id: str, state: str | None, terms: Terms, because: str | None = None
) -> None:
    """Do as `set_subscription` in a transaction of the caller's; `because` is the id of what it was done for.

    Raises:
        ValueError: as there.
    """
    mine = TENANTS.c.tenant_id == tenant_id
    # FOR UPDATE: two who change different terms at once must not undo each other's.
    found = session.execute(select(*COLUMNS).where(mine).with_for_update()).first()
    if found is None:
        raise ValueError(f"there is no tenant {tenant_id!r}")
    _refuse_erased(session, tenant_id)
    agreed = _agree(found._asdict(), state or found.subscription, terms, db.clock(), db.settings)
    session.execute(update(TENANTS).where(mine).values(agreed))
    reason = {} if because is None else {"because": because}
    append(db, session, tenant_id, "subscription.change", tenant_id, **_told(agreed), **reason)
    bump_epoch(session)


def _refuse_erased(session: Session, tenant_id: str) -> None:
    if session.execute(select(ERASURES.c.erasure_id).where(ERASURES.c.tenant_id == tenant_id)).first() is not None:
        raise ValueError(f"tenant {tenant_id!r} was erased, or is being; its id is not given again")


def _agree(
    before: dict[str, Any] | None, state: str, terms: Terms, now: datetime, settings: TenancySettings
) -> dict[str, Any]:
    """Return the columns of a subscription as it will be."""
    _check(state, terms)
    was = before or {column.name: None for column in COLUMNS}
    agreed: dict[str, Any] = {**was, **terms, "subscription": state}
    if state == was["subscription"]:
        return agreed
    agreed["subscription_since"] = now
    if state == "past_due":
        agreed["grace_ends_at"] = terms.get("grace_ends_at", now + timedelta(days=settings.past_due_grace_days))
    if state == "trial":
        agreed["trial_ends_at"] = agreed["trial_ends_at"] or now + timedelta(days=settings.trial_days)
        if "trial_ends_at" not in terms and agreed["trial_ends_at"] <= now:
            raise ValueError(f"the trial ended at {moment(agreed['trial_ends_at'])}: give it another end")
    return agreed


def _check(state: str, terms: Terms) -> None:
    if state not in STATES:
        raise ValueError(f"subscription {state!r}: want one of {', '.join(STATES)}")
    for date, its_state in (("trial_ends_at", "trial"), ("grace_ends_at", "past_due")):
        if date in terms and state != its_state:
            raise ValueError(f"{date}: only a subscription that is {its_state} has one, this is {state}")
    for limit, most in _MOST.items():
        wanted = terms.get(limit)
        if isinstance(wanted, int) and not 1 <= wanted <= most:
            raise ValueError(f"{limit} {wanted}: want 1 to {most}")


def _told(agreed: dict[str, Any]) -> dict[str, Any]:
    """Return what the audit chain says of a subscription."""
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in agreed.items()}
