"""Which mails of summaries went out: each is claimed before it is sent, so that it goes once, whoever is killed when.

A claim that nobody finishes falls free after `CLAIM`. Only who dies after the server took a mail and before that is
written sends it again, under the same Message-ID.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

from sqlalchemy import select, update

from tenancy.database import Database
from tenancy.metadata import insert_into, select_record
from tenancy.recipients import Recipient
from tenancy.summary_tables import SUMMARY_MAILS, SUMMARY_RECIPIENTS

CLAIM: Final = timedelta(minutes=10)
ATTEMPTS: Final = 8
_FIRST_WAIT: Final = timedelta(minutes=2)


@dataclass(frozen=True)
class Mail:
    """One mail to one recipient; `state` is `waiting`, `sending`, `sent` or `failed`."""

    recipient_id: str
    period: str
    period_start: date
    revision: int
    tenant_id: str
    state: str
    attempts: int
    message_id: str
    error: str | None
    due_at: datetime
    changed_at: datetime


def claim(db: Database, recipient: Recipient, period: str, period_start: date, revision: int) -> Mail | None:
    """Claim a mail; None if it is sent, given up, being sent, not due again yet, or its recipient not confirmed."""
    now, table = db.clock(), SUMMARY_MAILS
    key = (recipient.recipient_id, period, period_start.isoformat(), str(revision))
    name = hashlib.sha256("\n".join(key).encode()).hexdigest()[:40]
    new = Mail(
        recipient.recipient_id, period, period_start, revision, recipient.tenant_id, "waiting", 0,
        f"<{name}@kaimon.invalid>", None, now, now,
    )  # fmt: skip
    person = SUMMARY_RECIPIENTS
    with db.transaction() as session:
        willing = select(person.c.state).where(person.c.recipient_id == recipient.recipient_id)
        if session.execute(willing).scalar() != "confirmed":
            return None
        session.execute(insert_into(table, db.dialect).values(**vars(new)).on_conflict_do_nothing())
        change = (
            update(table)
            .where(*_key(new), table.c.state.in_(("waiting", "sending")), table.c.due_at <= now)
            .values(state="sending", attempts=table.c.attempts + 1, due_at=now + CLAIM, changed_at=now)
        )
        if session.execute(change.returning(table.c.recipient_id)).first() is None:
            return None
        return Mail(*session.execute(select_record(Mail, table).where(*_key(new))).one())


def sent(db: Database, mail: Mail) -> None:
    """Write down that a claimed mail was taken."""
    _finish(db, mail, state="sent", error=None)


def not_sent(db: Database, mail: Mail, error: str, *, permanent: bool = False) -> None:
    """Write down that a claimed mail was not taken; it is tried again, later each time, at most `ATTEMPTS` times.

    Args:
        db: the control database.
        mail: as claimed.
        error: its kind, at most 64 characters, without an address.
        permanent: that trying again is of no use.
    """
    over = permanent or mail.attempts >= ATTEMPTS
    wait = _FIRST_WAIT * 2 ** (mail.attempts - 1)
    _finish(db, mail, state="failed" if over else "waiting", error=error[:64], due_at=db.clock() + wait)


def mails(db: Database, tenant_id: str) -> list[Mail]:
    """Return a tenant's mails, the oldest period first."""
    table = SUMMARY_MAILS
    wanted = select_record(Mail, table).where(table.c.tenant_id == tenant_id)
    ordered = wanted.order_by(table.c.period_start, table.c.period, table.c.revision, table.c.recipient_id)
    with db.reading() as session:
        return [Mail(*row) for row in session.execute(ordered)]


def _finish(db: Database, mail: Mail, **values: Any) -> None:
    # Only whoever still holds the claim: another may have taken it over.
    mine = (*_key(mail), SUMMARY_MAILS.c.state == "sending", SUMMARY_MAILS.c.attempts == mail.attempts)
    with db.transaction() as session:
        session.execute(update(SUMMARY_MAILS).where(*mine).values(changed_at=db.clock(), **values))


def _key(mail: Mail) -> tuple[Any, ...]:
    return tuple(
        SUMMARY_MAILS.c[name] == getattr(mail, name)
        for name in ("recipient_id", "period", "period_start", "revision")
    )  # fmt: skip
