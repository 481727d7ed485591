"""People: the numbers under which they act, and the names that an erasure removes."""

from __future__ import annotations

import secrets
from typing import Final

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from tenancy.audit import CHAIN, append
from tenancy.database import Database
from tenancy.metadata import insert_into
from tenancy.people_tables import LOGINS, MEMBERS, PEOPLE, PORTAL_SESSIONS
from tenancy.tables import AUDIT_RECORDS

OPERATOR: Final = "login:"
"""What the name of somebody begins with who works on this machine; all others are customers' people."""


def person_of(db: Database, name: str) -> str:
    """Return the id (`prs_…`) of whoever goes by `name`, made on first sight."""
    with db.reading() as session:
        known = session.execute(select(PEOPLE.c.person_id).where(PEOPLE.c.name == name)).scalar()
    if known is not None:
        return str(known)
    new = {"person_id": f"prs_{secrets.token_hex(8)}", "name": name, "created_at": db.clock()}
    with db.transaction() as session:
        session.execute(insert_into(PEOPLE, db.dialect).values(**new).on_conflict_do_nothing())
        return str(session.execute(select(PEOPLE.c.person_id).where(PEOPLE.c.name == name)).scalar_one())


def names(db: Database) -> dict[str, str]:
    """Return the name of every person whose name is still kept, by id."""
    with db.reading() as session:
        rows = session.execute(select(PEOPLE.c.person_id, PEOPLE.c.name).where(PEOPLE.c.name.is_not(None)))
        return {person: name for person, name in rows}  # noqa: C416 - rows are no pairs to mypy


def forget_name(db: Database, person_id: str) -> None:
    """Remove a person's name; what they did stays, under a number that nobody can resolve any more.

    Forgetting twice is no error. Whoever acts under that name again is given another number.

    Raises:
        ValueError: nobody has that number.
    """
    mine = PEOPLE.c.person_id == person_id
    with db.transaction() as session:
        found = session.execute(select(PEOPLE.c.name).where(mine).with_for_update()).first()
        if found is None:
            raise ValueError(f"there is no person {person_id!r}")
        if found.name is None:
            return
        session.execute(update(PEOPLE).where(mine).values(name=None))
        for table in (LOGINS, PORTAL_SESSIONS):
            session.execute(delete(table).where(table.c.person_id == person_id))
        append(db, session, CHAIN, "person.forget", person_id)


def forget_strangers(session: Session, chain: str) -> int:
    """Remove the names of people who acted on this chain and on no other, and return how many.

    Operators keep theirs: who erased a customer's data must not be erased with it.
    """
    named = session.execute(select(PEOPLE.c.person_id, PEOPLE.c.name).where(PEOPLE.c.name.is_not(None))).all()
    forgotten = 0
    for person_id, name in named:
        if name.startswith(OPERATOR):
            continue
        acted = AUDIT_RECORDS.c.body.contains(f'"actor":"{person_id}"', autoescape=True)
        chains = set(session.execute(select(AUDIT_RECORDS.c.chain).where(acted).distinct()).scalars())
        if chains == {chain}:
            session.execute(update(PEOPLE).where(PEOPLE.c.person_id == person_id).values(name=None))
            forgotten += 1
    return forgotten


def forget_logins(session: Session) -> None:
    """Remove what the identity provider calls people who are nobody's members any more, and their sessions.

    Who logs in again is known by a verified address, or anew.
    """
    members = select(MEMBERS.c.person_id)
    for table in (LOGINS, PORTAL_SESSIONS):
        session.execute(delete(table).where(table.c.person_id.not_in(members)))
