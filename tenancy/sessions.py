"""Logins and the portal's sessions: kept here, so that ending one ends it everywhere at once."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, insert, or_, select, update

from tenancy.audit import CHAIN, append
from tenancy.database import Database
from tenancy.members import address
from tenancy.metadata import insert_into
from tenancy.people import person_of
from tenancy.people_tables import LOGIN_ATTEMPTS, LOGINS, PEOPLE, PORTAL_SESSIONS

ATTEMPT_S: Final = 600.0
"""Within how many seconds somebody must have come back from the identity provider."""
_NOTED_EVERY: Final = timedelta(seconds=60)


class UnverifiedError(ValueError):
    """The provider does not vouch for the e-mail address, and does not know the login otherwise."""


@dataclass(frozen=True)
class Attempt:
    """A login that has begun: what the provider's answer must fit."""

    state: str
    nonce: str
    verifier: str


def digest_of(secret: str) -> str:
    """Return what is stored of an id that a browser holds."""
    return hashlib.sha256(secret.encode()).hexdigest()


def begin_login(db: Database) -> tuple[str, Attempt]:
    """Begin a login; return the secret that ties it to this browser, and what goes to the provider."""
    secret, now = secrets.token_urlsafe(32), db.clock()
    attempt = Attempt(secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_urlsafe(48))
    old = LOGIN_ATTEMPTS.c.created_at < now - timedelta(seconds=ATTEMPT_S)
    with db.transaction() as session:
        session.execute(delete(LOGIN_ATTEMPTS).where(old))
        session.execute(insert(LOGIN_ATTEMPTS).values(digest=digest_of(secret), created_at=now, **vars(attempt)))
    return secret, attempt


def take_attempt(db: Database, secret: str) -> Attempt | None:
    """Return the login that this browser began, once; None if there is none that still counts."""
    table = LOGIN_ATTEMPTS
    with db.transaction() as session:
        row = session.execute(delete(table).where(table.c.digest == digest_of(secret)).returning(*table.c)).first()
    if row is None or row.created_at < db.clock() - timedelta(seconds=ATTEMPT_S):
        return None
    return Attempt(row.state, row.nonce, row.verifier)


def person_for(db: Database, issuer: str, subject: str, email: str | None, *, verified: bool) -> str:
    """Return the person behind a login; one never seen before is linked by its address, if that is verified.

    Raises:
        UnverifiedError: a new login without a verified address.
    """
    table = LOGINS
    mine = (table.c.issuer == issuer, table.c.subject == subject)
    with db.reading() as session:
        known = session.execute(select(table.c.person_id).where(*mine)).scalar()
    if known is not None:
        return str(known)
    if email is None or not verified:
        raise UnverifiedError("the identity provider does not vouch for the e-mail address")
    person = person_of(db, address(email))
    row = {"issuer": issuer, "subject": subject, "person_id": person, "created_at": db.clock()}
    with db.transaction() as session:
        session.execute(insert_into(table, db.dialect).values(**row).on_conflict_do_nothing())
        return str(session.execute(select(table.c.person_id).where(*mine)).scalar_one())


def start_session(db: Database, person_id: str) -> str:
    """Start a session under a new id and return it, this once."""
    secret, now = secrets.token_urlsafe(32), db.clock()
    row = {"digest": digest_of(secret), "person_id": person_id, "created_at": now, "used_at": now}
    with db.transaction() as session:
        session.execute(insert(PORTAL_SESSIONS).values(**row))
        append(db, session, CHAIN, "session.start", person_id)
    return secret


def session_of(db: Database, secret: str, idle: timedelta, longest: timedelta) -> str | None:
    """Return whose session it is; None if it was ended, lay idle for too long or is too old."""
    table, now = PORTAL_SESSIONS, db.clock()
    mine = table.c.digest == digest_of(secret)
    with db.reading() as session:
        row = session.execute(select(table).where(mine)).first()
    if row is None or _over(row.used_at, row.created_at, now, idle, longest):
        return None
    if now - row.used_at >= _NOTED_EVERY:
        with db.transaction() as session:
            session.execute(update(table).where(mine).values(used_at=now))
    return str(row.person_id)


def end_session(db: Database, secret: str) -> None:
    """End a session everywhere."""
    table = PORTAL_SESSIONS
    with db.transaction() as session:
        gone = delete(table).where(table.c.digest == digest_of(secret)).returning(table.c.person_id)
        person = session.execute(gone).scalar()
        if person is not None:
            append(db, session, CHAIN, "session.end", str(person))


def purge_sessions(db: Database, idle: timedelta, longest: timedelta) -> None:
    """Delete sessions that no longer count."""
    table, now = PORTAL_SESSIONS, db.clock()
    with db.transaction() as session:
        session.execute(delete(table).where(or_(table.c.used_at < now - idle, table.c.created_at < now - longest)))


def name_of(db: Database, person_id: str) -> str | None:
    """Return the address under which a person is known, None once it was forgotten."""
    with db.reading() as session:
        return session.execute(select(PEOPLE.c.name).where(PEOPLE.c.person_id == person_id)).scalar()


def _over(used: datetime, created: datetime, now: datetime, idle: timedelta, longest: timedelta) -> bool:
    return now - used >= idle or now - created >= longest
