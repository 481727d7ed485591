"""What the payment processor says of a tenant's subscription, and when that counts.

Its events come late, twice, in any order and at once; each counts at most once, and none counts after a newer one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from tenancy.audit import append
from tenancy.billing_tables import BILLING_CUSTOMERS, BILLING_EVENTS
from tenancy.database import Database
from tenancy.metadata import insert_into, select_record
from tenancy.tables import ERASURES, TENANTS
from tenancy.tenants import change_subscription

STATES: Final = {
    "trialing": "active",
    "active": "active",
    "past_due": "past_due",
    "unpaid": "ended",
    "paused": "ended",
    "canceled": "ended",
}
"""What a subscription's status at the processor makes of a tenant's here. One that has not begun (`incomplete`,
`incomplete_expired`) changes nothing: the tenant may be on trial still."""
OVER: Final = frozenset({"canceled", "incomplete_expired"})
"""A subscription that is so stays so; another may take its place."""
KEPT: Final = timedelta(days=90)
"""How long an event's id is remembered; the processor sends none again after 30 days."""
RANKS: Final = {"customer.subscription.created": 0, "customer.subscription.deleted": 2}
"""Of events of one second, which came first; all others stand between."""
_PAID: Final = {None: "active", "incomplete": "active", "past_due": "active", "unpaid": "active"}
_FAILED: Final = {None: "past_due", "active": "past_due"}

Outcome = Literal["applied", "unchanged", "stale", "repeated", "unknown", "unsure"]
"""`unsure`: two events of one second differ, and nobody can tell by them alone which was last; nothing was written."""


@dataclass(frozen=True)
class BillingCustomer:
    """A tenant's customer at the processor, and its subscription there as of the last event that counted."""

    tenant_id: str
    customer_id: str
    live: bool
    created_at: datetime
    subscription_id: str | None = None
    begun_at: datetime | None = None
    status: str | None = None
    latest_invoice: str | None = None
    period_ends_at: datetime | None = None
    cancels_at: datetime | None = None
    told_at: datetime | None = None
    told_rank: int = 0
    version: int = 0

    @property
    def subscribed(self) -> bool:
        """Whether there is a subscription that may still be paid."""
        return self.status is not None and self.status not in OVER and self.status != "incomplete"


@dataclass(frozen=True)
class Notice:
    """What an event says; of an invoice's, `status` is `paid` or `failed` and `latest_invoice` the invoice."""

    event_id: str
    kind: str
    at: datetime
    customer_id: str
    subscription_id: str
    status: str
    begun_at: datetime | None = None
    latest_invoice: str | None = None
    period_ends_at: datetime | None = None
    cancels_at: datetime | None = None

    @property
    def of_invoice(self) -> bool:
        """Whether it tells of an invoice; of a subscription then only that it was paid or not."""
        return self.kind.startswith("invoice.")

    @property
    def rank(self) -> int:
        """Where it stands among events of one second."""
        return RANKS.get(self.kind, 1)


def customer_of(db: Database, tenant_id: str, *, live: bool) -> BillingCustomer | None:
    """Return a tenant's customer in this mode, None if it has none."""
    mine = (BILLING_CUSTOMERS.c.tenant_id == tenant_id, BILLING_CUSTOMERS.c.live == live)
    with db.reading() as session:
        row = session.execute(select_record(BillingCustomer, BILLING_CUSTOMERS).where(*mine)).first()
        return None if row is None else BillingCustomer(*row)


def customer_by_id(db: Database, customer_id: str) -> BillingCustomer | None:
    """Return the customer of that id, None if it is no tenant's."""
    with db.reading() as session:
        theirs = BILLING_CUSTOMERS.c.customer_id == customer_id
        row = session.execute(select_record(BillingCustomer, BILLING_CUSTOMERS).where(theirs)).first()
        return None if row is None else BillingCustomer(*row)


def link_customer(
    db: Database, tenant_id: str, customer_id: str, *, live: bool, instead: bool = False
) -> BillingCustomer:
    """Say which customer a tenant is; one that it was in the other mode is forgotten, one of this mode stays.

    Args:
        db: the control database.
        tenant_id: whose.
        customer_id: as the processor calls it.
        live: in which mode.
        instead: one of this mode stays only while it has a subscription.

    Raises:
        ValueError: there is no such tenant, or the customer is another tenant's.
    """
    table, now = BILLING_CUSTOMERS, db.clock()
    made = BillingCustomer(tenant_id, customer_id, live, now)
    mine = table.c.tenant_id == tenant_id
    with db.transaction() as session:
        if session.execute(select(TENANTS.c.tenant_id).where(TENANTS.c.tenant_id == tenant_id)).first() is None:
            raise ValueError(f"there is no tenant {tenant_id!r}")
        session.execute(delete(table).where(mine, table.c.live != live))
        row = session.execute(select_record(BillingCustomer, table).where(mine).with_for_update()).first()
        if instead and row is not None and not BillingCustomer(*row).subscribed:
            session.execute(delete(table).where(mine))
        new = insert_into(table, db.dialect).values(**vars(made)).on_conflict_do_nothing()
        if session.execute(new.returning(table.c.tenant_id)).first() is not None:
            append(db, session, tenant_id, "billing.customer", customer_id, live=live)
        row = session.execute(select_record(BillingCustomer, table).where(mine)).first()
        if row is None:
            raise ValueError(f"customer {customer_id!r} is another tenant's")
        return BillingCustomer(*row)


def hear(
    db: Database, notice: Notice, *, wins_ties: bool = False, sure: bool = False, version: int | None = None
) -> tuple[str | None, Outcome]:
    """Take in an event; return whose it is, None if nobody's, and what came of it.

    Args:
        db: the control database.
        notice: what the event says.
        wins_ties: of two events of one second that differ, the one that comes later counts; without it, `unsure`.
        sure: `notice` says what is so now, whatever was heard before.
        version: with `sure`, the customer's as of before it was asked; if it is another by now, nothing is done.
    """
    with db.transaction() as session:
        theirs = BILLING_CUSTOMERS.c.customer_id == notice.customer_id
        row = session.execute(select_record(BillingCustomer, BILLING_CUSTOMERS).where(theirs).with_for_update()).first()
        if row is None or _erased(session, row.tenant_id):
            return None, "unknown"
        was = BillingCustomer(*row)
        if (
            session.execute(
                select(BILLING_EVENTS.c.event_id).where(BILLING_EVENTS.c.event_id == notice.event_id)
            ).first()
            is not None
        ):
            return was.tenant_id, "repeated"
        if version is not None and version != was.version:
            return was.tenant_id, "unsure"
        becomes, outcome = _judged(was, notice, wins_ties=wins_ties, sure=sure)
        if outcome == "unsure":
            return was.tenant_id, outcome
        if becomes is not None:
            outcome = _written(db, session, becomes, notice)
        _remember(db, session, was.tenant_id, notice, outcome)
        return was.tenant_id, outcome


def _judged(
    was: BillingCustomer, notice: Notice, *, wins_ties: bool, sure: bool
) -> tuple[BillingCustomer | None, Outcome]:
    """Return what a customer becomes by an event, None if nothing, and why."""
    known = was.subscription_id is not None
    if known and notice.subscription_id != was.subscription_id and not _replaces(was, notice):
        return None, "stale"
    another = notice.subscription_id != was.subscription_id
    if not another and was.status in OVER and not sure:
        return None, "stale"
    status: str | None = notice.status
    if notice.of_invoice:
        before = None if another else was.status
        status = (_PAID if notice.status == "paid" else _FAILED).get(before)
        other_invoice = not another and was.latest_invoice not in {None, notice.latest_invoice}
        if status is None or other_invoice:
            return None, "unchanged"
    if not another and was.told_at is not None:
        told, now = (was.told_at, was.told_rank), (notice.at, notice.rank)
        if now < told and not sure:
            return None, "stale"
        if now == told and not (sure or wins_ties) and STATES.get(str(status)) != STATES.get(str(was.status)):
            return None, "unsure"
    return _becomes(was, notice, str(status)), "applied"


def _becomes(was: BillingCustomer, notice: Notice, status: str) -> BillingCustomer:
    same, newest = notice.subscription_id == was.subscription_id, (notice.at, notice.rank)
    if same and was.told_at is not None:
        newest = max((was.told_at, was.told_rank), newest)
    if notice.of_invoice and same:
        made = replace(was, status=status)
    else:
        made = replace(
            was,
            subscription_id=notice.subscription_id,
            begun_at=notice.begun_at,
            status=status,
            latest_invoice=notice.latest_invoice,
            period_ends_at=notice.period_ends_at,
            cancels_at=notice.cancels_at,
        )
    return replace(made, told_at=newest[0], told_rank=newest[1], version=was.version + 1)


def _replaces(was: BillingCustomer, notice: Notice) -> bool:
    """Say whether another subscription takes the place of the one that is known."""
    if notice.of_invoice or notice.status in {*OVER, "incomplete"}:
        return False
    if was.status in OVER and was.told_at is not None and notice.at > was.told_at:
        return True
    return was.begun_at is not None and notice.begun_at is not None and notice.begun_at > was.begun_at


def _written(db: Database, session: Session, becomes: BillingCustomer, notice: Notice) -> Outcome:
    mine = BILLING_CUSTOMERS.c.tenant_id == becomes.tenant_id
    session.execute(update(BILLING_CUSTOMERS).where(mine).values(**vars(becomes)))
    state = STATES.get(str(becomes.status))
    asked = select(TENANTS.c.subscription).where(TENANTS.c.tenant_id == becomes.tenant_id).with_for_update()
    if state is None or session.execute(asked).scalar_one() == state:
        return "unchanged"
    change_subscription(db, session, becomes.tenant_id, state, {}, because=notice.event_id)
    return "applied"


def _remember(db: Database, session: Session, tenant_id: str, notice: Notice, outcome: Outcome) -> None:
    now = db.clock()
    # Its own alone: who it is has been locked, and two who delete each other's would wait for each other crosswise.
    old = (BILLING_EVENTS.c.tenant_id == tenant_id, BILLING_EVENTS.c.received_at < now - KEPT)
    session.execute(delete(BILLING_EVENTS).where(*old))
    row = {
        "event_id": notice.event_id,
        "tenant_id": tenant_id,
        "kind": notice.kind,
        "at": notice.at,
        "received_at": now,
        "outcome": outcome,
    }
    session.execute(insert_into(BILLING_EVENTS, db.dialect).values(row))


def _erased(session: Session, tenant_id: str) -> bool:
    return session.execute(select(ERASURES.c.erasure_id).where(ERASURES.c.tenant_id == tenant_id)).first() is not None
