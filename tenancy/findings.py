"""What people say of findings: which are not to be reported, why and until when, and which are dealt with."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from kaimon.base.acting import actor
from tenancy.audit import append
from tenancy.database import Database
from tenancy.metadata import select_record
from tenancy.summary_tables import FINDING_CLOSINGS, FINDING_SUPPRESSIONS
from tenancy.tables import TENANTS

LONGEST: Final = timedelta(days=366)
"""No suppression lasts longer: what was right a year ago is looked at again."""


@dataclass(frozen=True)
class Suppression:
    """A rule that is not to report what all the given fields fit, up to and including a day; None fits any.

    `path_prefix` fits a path that begins so. `reason` is what somebody wrote.
    """

    suppression_id: str
    tenant_id: str
    rule: str
    agent_id: str | None
    exe: str | None
    user: str | None
    path_prefix: str | None
    reason: str
    expires_on: date
    created_by: str
    created_at: datetime
    ended_at: datetime | None = None


@dataclass(frozen=True)
class Closing:
    """A finding that somebody has dealt with: what was seen of it up to then is closed."""

    closing_id: str
    tenant_id: str
    finding_id: str
    reason: str
    closed_by: str
    closed_at: datetime


def suppress(
    db: Database,
    tenant_id: str,
    rule: str,
    reason: str,
    expires_on: date,
    *,
    agent_id: str | None = None,
    exe: str | None = None,
    user: str | None = None,
    path_prefix: str | None = None,
) -> Suppression:
    """Keep a suppression and put it on the tenant's audit chain.

    Raises:
        ValueError: no reason, nothing that narrows it down, an end in the past or too far off, or no such tenant.
    """
    now = db.clock()
    if not reason.strip():
        raise ValueError("a suppression needs a reason")
    if not any((agent_id, exe, user, path_prefix)):
        raise ValueError("a suppression must say which host, program, user or folder it is for")
    if not now.date() <= expires_on <= now.date() + LONGEST:
        raise ValueError(f"until {expires_on}: want a day from today to {LONGEST.days} days ahead")
    made = Suppression(
        f"sup_{secrets.token_hex(8)}", tenant_id, rule, agent_id, exe, user, path_prefix, reason.strip(), expires_on,
        actor().who, now,
    )  # fmt: skip
    with db.transaction() as session:
        _must_exist(session, tenant_id)
        session.execute(insert(FINDING_SUPPRESSIONS).values(**vars(made)))
        append(
            db, session, tenant_id, "finding.suppress", made.suppression_id, rule=rule,
            expires_on=expires_on.isoformat(),
        )  # fmt: skip
    return made


def end_suppression(db: Database, tenant_id: str, suppression_id: str) -> None:
    """Let a rule report again from now on.

    Raises:
        ValueError: the tenant has no such suppression that is in force.
    """
    table = FINDING_SUPPRESSIONS
    mine = (table.c.tenant_id == tenant_id, table.c.suppression_id == suppression_id, table.c.ended_at.is_(None))
    with db.transaction() as session:
        change = update(table).where(*mine).values(ended_at=db.clock()).returning(table.c.rule)
        if session.execute(change).first() is None:
            raise ValueError(f"tenant {tenant_id!r} has no suppression {suppression_id!r} in force")
        append(db, session, tenant_id, "finding.unsuppress", suppression_id)


def suppressions(db: Database, tenant_id: str, day: date | None = None) -> list[Suppression]:
    """Return a tenant's suppressions, the oldest first; with `day`, those that hold for that day."""
    table = FINDING_SUPPRESSIONS
    wanted = select_record(Suppression, table).where(table.c.tenant_id == tenant_id)
    with db.reading() as session:
        found = [
            Suppression(*row) for row in session.execute(wanted.order_by(table.c.created_at, table.c.suppression_id))
        ]
    if day is None:
        return found
    return [one for one in found if day <= one.expires_on and (one.ended_at is None or day < one.ended_at.date())]


def close_finding(db: Database, tenant_id: str, finding_id: str, reason: str) -> Closing:
    """Say that a finding is dealt with; if it comes again, it is a new one.

    Raises:
        ValueError: no reason, or no such tenant.
    """
    if not reason.strip():
        raise ValueError("closing a finding needs a reason")
    made = Closing(f"cls_{secrets.token_hex(8)}", tenant_id, finding_id, reason.strip(), actor().who, db.clock())
    with db.transaction() as session:
        _must_exist(session, tenant_id)
        session.execute(insert(FINDING_CLOSINGS).values(**vars(made)))
        append(db, session, tenant_id, "finding.close", finding_id)
    return made


def closings(db: Database, tenant_id: str) -> list[Closing]:
    """Return a tenant's closings, the oldest first."""
    table = FINDING_CLOSINGS
    wanted = select_record(Closing, table).where(table.c.tenant_id == tenant_id)
    with db.reading() as session:
        return [Closing(*row) for row in session.execute(wanted.order_by(table.c.closed_at, table.c.closing_id))]


def _must_exist(session: Session, tenant_id: str) -> None:
    if session.execute(select(TENANTS.c.tenant_id).where(TENANTS.c.tenant_id == tenant_id)).first() is None:
        raise ValueError(f"there is no tenant {tenant_id!r}")
