"""How long a tenant's data is kept: its days by what was agreed, all of it until a grace after its end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from sqlalchemy import delete, update

from tenancy.audit import append
from tenancy.database import Database
from tenancy.erasure_requests import request_of
from tenancy.subscriptions import subscription_in
from tenancy.tables import DAY_STATES, TENANTS
from tenancy.tenants import Tenant

GRACE: Final = timedelta(days=30)
"""How long after its end a trial, or a subscription, is still there to be taken up again."""
LEAST_DAYS: Final = 15
"""A day limit below this would drop days that late events may still come for, and segments that landed just now."""
_MOST_DAYS: Final = 36_500


@dataclass(frozen=True)
class Kept:
    """What is to become of a tenant: `erase` says why it is due to be erased; `before` which days go.

    `asked`: at `erase_at` because its Admin asked for it.
    """

    erase: str | None
    erase_at: datetime | None
    before: date | None
    asked: bool = False


def kept(tenant: Tenant, db: Database) -> Kept:
    """Return what holds for a tenant now.

    An active one is kept. A trial that ended, a subscription that was ended and a payment that stayed out are erased
    after `GRACE`; where nobody wrote down since when, nothing is erased. What its Admin asked for comes
    first where it is due earlier.
    """
    now = db.clock()
    agreed = subscription_in(tenant, db.settings)
    lapse = agreed.lapse(now)
    erase_at = None if lapse is None or lapse.since is None else lapse.since + GRACE
    due = erase_at is not None and now >= erase_at
    reason = "trial" if agreed.state == "trial" else "ended"
    before = None if tenant.keep_days is None else now.date() - timedelta(days=tenant.keep_days)
    asked = request_of(db, tenant.tenant_id)
    if asked is not None and (erase_at is None or asked.due_at < erase_at):
        return Kept("request" if now >= asked.due_at else None, asked.due_at, before, asked=True)
    return Kept(reason if due else None, erase_at, before)


def set_keep_days(db: Database, tenant_id: str, days: int | None) -> None:
    """Agree how many whole days before today are kept; None: all of them. What is older goes the next night.

    Raises:
        ValueError: there is no such tenant, or the number is too small or too great.
    """
    if days is not None and not LEAST_DAYS <= days <= _MOST_DAYS:
        raise ValueError(f"days {days}: want {LEAST_DAYS} to {_MOST_DAYS:,}")
    with db.transaction() as session:
        change = update(TENANTS).where(TENANTS.c.tenant_id == tenant_id).values(keep_days=days)
        if session.execute(change.returning(TENANTS.c.tenant_id)).first() is None:
            raise ValueError(f"there is no tenant {tenant_id!r}")
        append(db, session, tenant_id, "retention.policy", tenant_id, keep_days=days)


def note_dropped(db: Database, tenant_id: str, before: date, tables: dict[str, int]) -> None:
    """Put on the chain that the days before a date are gone, with the objects deleted by table; their states go too."""
    with db.transaction() as session:
        old = (DAY_STATES.c.tenant_id == tenant_id, DAY_STATES.c.day < before)
        session.execute(delete(DAY_STATES).where(*old))
        append(db, session, tenant_id, "retention.drop", tenant_id, before=before.isoformat(), objects=tables)


def note_act(db: Database, tenant_id: str, act: str, **detail: int) -> None:
    """Put an act of retention on a tenant's chain."""
    with db.transaction() as session:
        append(db, session, tenant_id, act, tenant_id, **detail)
