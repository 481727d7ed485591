"""Members: which people may look at which tenant, as Member or as Admin, and who is invited to."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from tenancy.audit import append
from tenancy.database import Database
from tenancy.metadata import insert_into, select_record
from tenancy.missing import MissingError
from tenancy.people_tables import INVITATIONS, MEMBERS, PEOPLE
from tenancy.tables import TENANTS

Role = Literal["member", "admin"]
ROLES: Final[tuple[Role, ...]] = ("member", "admin")
INVITATION_DAYS: Final = 14
_EMAIL: Final = re.compile(r"[^\s@:<>\"',;\\]{1,64}@[a-z0-9-]+(\.[a-z0-9-]+)+")


class LastAdminError(ValueError):
    """A tenant would be left without an Admin."""


@dataclass(frozen=True)
class Member:
    """Who may look at a tenant; `name` is None once it was forgotten."""

    person_id: str
    role: Role
    joined_at: datetime
    name: str | None


@dataclass(frozen=True)
class Invitation:
    """Who may become a member by logging in with that address, verified, before `expires_at`."""

    invitation_id: str
    tenant_id: str
    email: str
    role: Role
    created_at: datetime
    expires_at: datetime


def address(text: str) -> str:
    """Return an e-mail address as it is compared here: trimmed, lower case.

    Raises:
        ValueError: it is not one.
    """
    email = text.strip().lower()
    if len(email) > 254 or not email.isascii() or not _EMAIL.fullmatch(email):
        raise ValueError("not an e-mail address")
    return email


def role_named(text: str) -> Role:
    """Return the role of that name.

    Raises:
        ValueError: there is none.
    """
    for role in ROLES:
        if role == text:
            return role
    raise ValueError("want the role member or admin")


def list_members(db: Database, tenant_id: str) -> list[Member]:
    """Return a tenant's members in the order they joined."""
    columns = (MEMBERS.c.person_id, MEMBERS.c.role, MEMBERS.c.joined_at, PEOPLE.c.name)
    wanted = select(*columns).join(PEOPLE, PEOPLE.c.person_id == MEMBERS.c.person_id, isouter=True)
    with db.reading() as session:
        rows = session.execute(
            wanted.where(MEMBERS.c.tenant_id == tenant_id).order_by(MEMBERS.c.joined_at, MEMBERS.c.person_id)
        )
        return [Member(*row) for row in rows]


def memberships(db: Database, person_id: str) -> dict[str, Role]:
    """Return a person's role in each tenant they may look at."""
    with db.reading() as session:
        mine = select(MEMBERS.c.tenant_id, MEMBERS.c.role).where(MEMBERS.c.person_id == person_id)
        return {row.tenant_id: row.role for row in session.execute(mine.order_by(MEMBERS.c.tenant_id))}


def invite(db: Database, tenant_id: str, email: str, role: Role) -> Invitation:
    """Let whoever proves that address become a member; an open invitation of theirs is replaced.

    Raises:
        ValueError: no address, or no such tenant.
    """
    email, now = address(email), db.clock()
    made = Invitation(f"inv_{secrets.token_hex(8)}", tenant_id, email, role, now, now + timedelta(days=INVITATION_DAYS))
    with db.transaction() as session:
        if session.execute(select(TENANTS.c.tenant_id).where(TENANTS.c.tenant_id == tenant_id)).first() is None:
            raise ValueError(f"there is no tenant {tenant_id!r}")
        same = (INVITATIONS.c.tenant_id == tenant_id, INVITATIONS.c.email == email)
        session.execute(delete(INVITATIONS).where(*same))
        session.execute(insert(INVITATIONS).values(**vars(made)))
        append(db, session, tenant_id, "member.invite", made.invitation_id, role=role)
    return made


def list_invitations(db: Database, tenant_id: str) -> list[Invitation]:
    """Return a tenant's open invitations, oldest first."""
    table = INVITATIONS
    mine = (table.c.tenant_id == tenant_id, table.c.expires_at > db.clock())
    with db.reading() as session:
        rows = session.execute(select_record(Invitation, table).where(*mine).order_by(table.c.created_at))
        return [Invitation(*row) for row in rows]


def withdraw(db: Database, tenant_id: str, invitation_id: str) -> None:
    """End an invitation.

    Raises:
        MissingError: the tenant has no such invitation.
    """
    table = INVITATIONS
    mine = (table.c.tenant_id == tenant_id, table.c.invitation_id == invitation_id)
    with db.transaction() as session:
        if session.execute(delete(table).where(*mine).returning(table.c.invitation_id)).first() is None:
            raise MissingError("there is no such invitation")
        append(db, session, tenant_id, "member.withdraw", invitation_id)


def accept(db: Database, person_id: str, email: str) -> int:
    """Make a person a member wherever that address, which they have proved, is invited; return in how many tenants.

    Whoever is a member keeps their role: only an Admin of today changes it.
    """
    table, now = INVITATIONS, db.clock()
    with db.transaction() as session:
        gone = delete(table).where(table.c.email == address(email)).returning(*table.c)
        open_ = [row for row in session.execute(gone).all() if row.expires_at > now]
        for row in open_:
            new = {"tenant_id": row.tenant_id, "person_id": person_id, "role": row.role, "joined_at": now}
            joined = insert_into(MEMBERS, db.dialect).values(**new).on_conflict_do_nothing()
            if session.execute(joined.returning(MEMBERS.c.person_id)).first() is not None:
                detail = {"invitation": row.invitation_id, "role": row.role}
                append(db, session, row.tenant_id, "member.join", person_id, **detail)
    return len(open_)


def change_role(db: Database, tenant_id: str, person_id: str, role: Role) -> None:
    """Give a member another role; it counts from their next request.

    Raises:
        MissingError: the tenant has no such member.
        LastAdminError: nobody else is Admin.
    """
    with db.transaction() as session:
        before = _held(session, tenant_id, person_id)
        if before == role:
            return
        if before == "admin":
            _require_another_admin(session, tenant_id)
        session.execute(update(MEMBERS).where(*_is(tenant_id, person_id)).values(role=role))
        append(db, session, tenant_id, "member.role", person_id, role=role, before=before)


def remove_member(db: Database, tenant_id: str, person_id: str) -> None:
    """End a membership; their next request is refused.

    Raises:
        MissingError: the tenant has no such member.
        LastAdminError: nobody else is Admin.
    """
    with db.transaction() as session:
        if _held(session, tenant_id, person_id) == "admin":
            _require_another_admin(session, tenant_id)
        session.execute(delete(MEMBERS).where(*_is(tenant_id, person_id)))
        append(db, session, tenant_id, "member.remove", person_id)


def _is(tenant_id: str, person_id: str) -> tuple[Any, ...]:
    return (MEMBERS.c.tenant_id == tenant_id, MEMBERS.c.person_id == person_id)


def _held(session: Session, tenant_id: str, person_id: str) -> str:
    # The tenant's row first: two Admins who demote each other take turns, and the second is the last one.
    session.execute(select(TENANTS.c.tenant_id).where(TENANTS.c.tenant_id == tenant_id).with_for_update(key_share=True))
    role = session.execute(select(MEMBERS.c.role).where(*_is(tenant_id, person_id))).scalar()
    if role is None:
        raise MissingError("there is no such member")
    return str(role)


def _require_another_admin(session: Session, tenant_id: str) -> None:
    admins = (MEMBERS.c.tenant_id == tenant_id, MEMBERS.c.role == "admin")
    if session.execute(select(func.count()).select_from(MEMBERS).where(*admins)).scalar_one() < 2:
        raise LastAdminError("a tenant needs an Admin: make somebody else Admin first")
