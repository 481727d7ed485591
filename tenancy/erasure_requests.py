"""Requests to erase a tenant: an Admin asks, anybody of them withdraws until it has begun, retention carries it out."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from kaimon.base.acting import actor
from tenancy.alarms import ERASURE_REQUESTED, NO_TENANT, raise_alarm
from tenancy.audit import append
from tenancy.database import Database
from tenancy.erasures import Erasure, get_erasure
from tenancy.metadata import insert_into, select_record
from tenancy.missing import MissingError
from tenancy.tables import ERASURE_REQUESTS, ERASURES, TENANTS

_CODE_BYTES: Final = 32


@dataclass(frozen=True)
class ErasureRequest:
    """Who asked, when, and from when on it is carried out (aware, UTC)."""

    tenant_id: str
    requested_by: str
    requested_at: datetime
    due_at: datetime


class NotNowError(Exception):
    """It was asked for already, or has begun."""


def request_erasure(db: Database, tenant_id: str) -> tuple[ErasureRequest, str]:
    """Ask that a tenant be erased once `erasure_grace_hours` are over.

    Returns:
        The request, and the code that finds the receipt when nobody can log in any more; it is kept nowhere.

    Raises:
        MissingError: there is no such tenant.
        NotNowError: somebody has asked before, or its erasure has begun.
    """
    now, code = db.clock(), secrets.token_urlsafe(_CODE_BYTES)
    due = now + timedelta(hours=db.settings.erasure_grace_hours)
    asked = ErasureRequest(tenant_id, actor().who, now, due)
    with db.transaction() as session:
        if session.execute(select(TENANTS.c.tenant_id).where(TENANTS.c.tenant_id == tenant_id)).first() is None:
            raise MissingError(f"there is no tenant {tenant_id!r}")
        _refuse_begun(session, tenant_id)
        new = insert_into(ERASURE_REQUESTS, db.dialect).values(**vars(asked), code_digest=_digest(code))
        made = new.on_conflict_do_nothing().returning(ERASURE_REQUESTS.c.tenant_id)
        if session.execute(made).first() is None:
            raise NotNowError("Its erasure was asked for already.")
        append(db, session, tenant_id, "tenant.erase.request", tenant_id, due_at=due.isoformat())
    # Operators hear of it while it can be withdrawn: whoever asked may not be who they say.
    told = {"due_at": due.isoformat(timespec="seconds")}
    raise_alarm(db, tenant_id, ERASURE_REQUESTED, now.isoformat(), NO_TENANT, told)
    return asked, code


def withdraw_erasure(db: Database, tenant_id: str) -> None:
    """Take a request back.

    Raises:
        MissingError: nobody has asked.
        NotNowError: the erasure has begun.
    """
    with db.transaction() as session:
        # The row first: `tenancy.erasures.begin` locks it, so that one of the two comes before the other.
        mine = delete(ERASURE_REQUESTS).where(ERASURE_REQUESTS.c.tenant_id == tenant_id)
        if session.execute(mine.returning(ERASURE_REQUESTS.c.tenant_id)).first() is None:
            raise MissingError("nobody has asked for an erasure")
        _refuse_begun(session, tenant_id)
        append(db, session, tenant_id, "tenant.erase.withdraw", tenant_id)


def request_of(db: Database, tenant_id: str) -> ErasureRequest | None:
    """Return what was asked for a tenant, None if nothing was or it was withdrawn."""
    with db.reading() as session:
        mine = ERASURE_REQUESTS.c.tenant_id == tenant_id
        row = session.execute(select_record(ErasureRequest, ERASURE_REQUESTS).where(mine)).first()
        return None if row is None else ErasureRequest(*row)


def request_by_code(db: Database, code: str) -> tuple[ErasureRequest, Erasure | None] | None:
    """Return the request that a code was given for, and how far it has come; None if it is no code of a request."""
    with db.reading() as session:
        mine = ERASURE_REQUESTS.c.code_digest == _digest(code)
        row = session.execute(select_record(ErasureRequest, ERASURE_REQUESTS).where(mine)).first()
    if row is None:
        return None
    asked = ErasureRequest(*row)
    return asked, get_erasure(db, asked.tenant_id)


def _refuse_begun(session: Session, tenant_id: str) -> None:
    if session.execute(select(ERASURES.c.erasure_id).where(ERASURES.c.tenant_id == tenant_id)).first() is not None:
        raise NotNowError("Its erasure has begun.")


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()
