"""Who gets summaries by mail: nobody before they have confirmed it themselves, and nobody after they have said stop.

The portal's routes call `confirm` and `unsubscribe`; a look at a link must not act, so they do so on POST only.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from tenancy.audit import append
from tenancy.database import Database
from tenancy.metadata import select_record
from tenancy.missing import MissingError
from tenancy.summary_tables import SUMMARY_RECIPIENTS
from tenancy.tables import TENANTS

CONFIRM_WITHIN: Final = timedelta(days=7)
MOST: Final = 50
"""Recipients that a tenant may have at a time."""
MOST_A_DAY: Final = 100
"""Addresses that a tenant may ask to confirm in 24 hours; one that says nothing, three times."""
ASKED_A_DAY: Final = 3
BOUNCES: Final = 3
"""Passing refusals of an address after which nothing is sent there any more."""
_ADDRESS: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])")
_ALIVE: Final = ("pending", "confirmed")


@dataclass(frozen=True)
class Recipient:
    """One address; `state` is `pending`, `confirmed`, `unsubscribed`, `removed` or `bounced`."""

    recipient_id: str
    tenant_id: str
    address: str
    state: str
    code_digest: str = field(repr=False)
    created_at: datetime
    confirmed_at: datetime | None
    ended_at: datetime | None
    bounces: int


def add_recipient(db: Database, tenant_id: str, address: str) -> tuple[Recipient, str]:
    """Keep an address that is yet to be confirmed; return it and the code that confirms it, which is kept nowhere.

    Raises:
        ValueError: no such tenant, no plain address, it is there already, or too many are there or were asked today:
            whoever may add addresses must not be able to flood one.
    """
    require_address(address)
    code = secrets.token_urlsafe(32)
    made = Recipient(
        f"rcp_{secrets.token_hex(8)}", tenant_id, address, "pending", _digest(code), db.clock(), None, None, 0
    )
    table = SUMMARY_RECIPIENTS
    with db.transaction() as session:
        if session.execute(select(TENANTS.c.tenant_id).where(TENANTS.c.tenant_id == tenant_id)).first() is None:
            raise ValueError(f"there is no tenant {tenant_id!r}")
        alive = select(func.lower(table.c.address)).where(table.c.tenant_id == tenant_id, table.c.state.in_(_ALIVE))
        addresses = set(session.execute(alive).scalars())
        if address.lower() in addresses:
            raise ValueError("this address is there already")
        if len(addresses) >= MOST:
            raise ValueError(f"a tenant has at most {MOST} recipients")
        lately = (table.c.tenant_id == tenant_id, table.c.created_at > db.clock() - timedelta(days=1))
        asked = [one.lower() for one in session.execute(select(table.c.address).where(*lately)).scalars()]
        if len(asked) >= MOST_A_DAY or asked.count(address.lower()) >= ASKED_A_DAY:
            raise ValueError("too many were asked to confirm in the last 24 hours; try again tomorrow")
        session.execute(insert(table).values(**vars(made)))
        append(db, session, tenant_id, "report.recipient_add", made.recipient_id)
    return made, code


def require_address(address: str) -> None:
    """Check that a text is one mail address.

    Raises:
        ValueError: it is not.
    """
    if not _ADDRESS.fullmatch(address) or ".." in address:
        raise ValueError("want one plain mail address, such as ciso@example.com")


def confirm(db: Database, code: str) -> Recipient | None:
    """Confirm the recipient to whom `code` was sent; None if there is none or it is too old. A second time is fine."""
    table = SUMMARY_RECIPIENTS
    with db.transaction() as session:
        found = _one(session, table.c.code_digest == _digest(code))
        if found is None or found.state == "confirmed":
            return found
        if found.state != "pending" or db.clock() > found.created_at + CONFIRM_WITHIN:
            return None
        return _change(db, session, found, "confirmed", "report.recipient_confirm", confirmed_at=db.clock())


def unsubscribe(db: Database, recipient_id: str, token: str) -> bool:
    """Send nothing more to a recipient; false if the token is not theirs. A second time is fine."""
    with db.transaction() as session:
        found = _one(session, SUMMARY_RECIPIENTS.c.recipient_id == recipient_id)
        if found is None or not hmac.compare_digest(unsubscribe_token(found).encode(), token.encode()):
            return False
        if found.state in _ALIVE:
            _change(db, session, found, "unsubscribed", "report.unsubscribe", ended_at=db.clock())
        return True


def remove_recipient(db: Database, tenant_id: str, recipient_id: str) -> None:
    """Send nothing more to a recipient, since the tenant says so.

    Raises:
        MissingError: the tenant has no such recipient.
    """
    table = SUMMARY_RECIPIENTS
    with db.transaction() as session:
        found = _one(session, table.c.recipient_id == recipient_id, table.c.tenant_id == tenant_id)
        if found is None or found.state not in _ALIVE:
            raise MissingError(f"tenant {tenant_id!r} has no recipient {recipient_id!r}")
        _change(db, session, found, "removed", "report.recipient_remove", ended_at=db.clock())


def record_bounce(db: Database, recipient_id: str, *, permanent: bool) -> Recipient:
    """Note that an address did not take mail; it gets no more if that is for good, or was so `BOUNCES` times.

    Raises:
        ValueError: no such recipient.
    """
    with db.transaction() as session:
        found = _one(session, SUMMARY_RECIPIENTS.c.recipient_id == recipient_id)
        if found is None:
            raise ValueError(f"there is no recipient {recipient_id!r}")
        count = found.bounces + 1
        if found.state in _ALIVE and (permanent or count >= BOUNCES):
            return _change(db, session, found, "bounced", "report.bounce", bounces=count, ended_at=db.clock())
        return _change(db, session, found, found.state, "report.bounce", bounces=count)


def recipients(db: Database, tenant_id: str, state: str | None = None) -> list[Recipient]:
    """Return a tenant's recipients, the oldest first; with `state`, those in it."""
    table = SUMMARY_RECIPIENTS
    wanted = select_record(Recipient, table).where(table.c.tenant_id == tenant_id)
    if state is not None:
        wanted = wanted.where(table.c.state == state)
    with db.reading() as session:
        return [Recipient(*row) for row in session.execute(wanted.order_by(table.c.created_at, table.c.recipient_id))]


def unsubscribe_token(recipient: Recipient) -> str:
    """Return what proves that an unsubscribe link was made for this recipient; it holds as long as its row."""
    key = recipient.code_digest.encode()
    return hmac.new(key, f"unsubscribe {recipient.recipient_id}".encode(), hashlib.sha256).hexdigest()


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()


def _one(session: Session, *where: Any) -> Recipient | None:
    row = session.execute(select_record(Recipient, SUMMARY_RECIPIENTS).where(*where)).first()
    return None if row is None else Recipient(*row)


def _change(
    db: Database, session: Session, found: Recipient, state: str, action: str, **values: object
) -> Recipient:  # fmt: skip
    mine = SUMMARY_RECIPIENTS.c.recipient_id == found.recipient_id
    session.execute(update(SUMMARY_RECIPIENTS).where(mine).values(state=state, **values))
    append(db, session, found.tenant_id, action, found.recipient_id)
    changed = _one(session, mine)
    assert changed is not None
    return changed
