"""Keys of the portal's API: what a tenant's programs show, and what each of them may do."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import insert, select, update

from kaimon.base.acting import actor
from kaimon.base.redact import redact
from tenancy.api_tables import API_KEYS
from tenancy.audit import append
from tenancy.database import Database
from tenancy.limits import SourceLimiter
from tenancy.metadata import select_record
from tenancy.missing import MissingError
from tenancy.refusals import answering_unavailable, unauthorized
from tenancy.sealed import api_key_context
from tenancy.tenants import get_tenant
from tenancy.tokens import TokenFormatError, index_of, mint, parse

READ: Final = (
    "hosts",
    "tokens",
    "events",
    "findings",
    "quality",
    "reports",
    "team",
    "audit",
    "retention",
    "subscription",
)
WRITE: Final = ("tokens", "team")
SCOPES: Final = (*(f"read:{name}" for name in READ), *(f"write:{name}" for name in WRITE))
"""What a key may be allowed, each by its resource; `read:*` and `write:*` stand for all of a kind when one is made."""
LONGEST: Final = timedelta(days=366)
_NOTED_EVERY: Final = timedelta(seconds=60)


@dataclass(frozen=True)
class ApiKey:
    """What is kept of a key for people to see: never the key."""

    key_id: str
    tenant_id: str
    prefix: str
    last_four: str
    label: str | None
    scopes: list[str]
    created_by: str
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None


def scopes_named(words: Iterable[str]) -> list[str]:
    """Return the scopes that are meant, in order, with `read:*` and `write:*` written out.

    Raises:
        ValueError: one is not a scope, or there is none.
    """
    wanted: set[str] = set()
    for word in words:
        meant = {scope for scope in SCOPES if scope == word or (word.endswith(":*") and scope.startswith(word[:-1]))}
        if not meant:
            raise ValueError(f"want scopes of: read:*, write:*, {', '.join(SCOPES)}")
        wanted |= meant
    if not wanted:
        raise ValueError("a key needs at least one scope")
    return [scope for scope in SCOPES if scope in wanted]


def create_api_key(
    db: Database, tenant_id: str, scopes: Iterable[str], label: str | None = None, expires_in: timedelta = LONGEST
) -> tuple[ApiKey, str]:
    """Make a key; return its record and, this once, the key.

    Raises:
        ValueError: no such tenant or scope, or an end that is past or more than `LONGEST` away.
        tenancy.keys.UnusableKeyError: it cannot be sealed.
    """
    allowed = scopes_named(scopes)
    if not timedelta(0) < expires_in <= LONGEST:
        raise ValueError(f"a key ends within {LONGEST.days} days")
    if get_tenant(db, tenant_id) is None:
        raise ValueError(f"there is no tenant {tenant_id!r}")
    token, now = mint("api"), db.clock()
    record = ApiKey(
        key_id=f"key_{secrets.token_hex(8)}",
        tenant_id=tenant_id,
        prefix=token[:8],
        last_four=token[-4:],
        label=label,
        scopes=allowed,
        created_by=actor().who,
        created_at=now,
        expires_at=now + expires_in,
        revoked_at=None,
        last_used_at=None,
    )
    db.keys.prepare()
    with db.transaction() as session:
        index = index_of(db.keys.index_key(session, hold=True), token)
        sealed = db.keys.seal(session, token, api_key_context(record.key_id))
        stored = {"token_hmac": index, "sealed": sealed.text, "sealed_with": sealed.key_id}
        session.execute(insert(API_KEYS).values(**vars(record), **stored))
        ends = record.expires_at.isoformat()
        append(db, session, tenant_id, "api_key.create", record.key_id, scopes=allowed, expires_at=ends)
    return record, token


def list_api_keys(db: Database, tenant_id: str) -> list[ApiKey]:
    """Return a tenant's keys, oldest first; those that are over too."""
    table = API_KEYS
    wanted = select_record(ApiKey, table).where(table.c.tenant_id == tenant_id)
    with db.reading() as session:
        return [ApiKey(*row) for row in session.execute(wanted.order_by(table.c.created_at, table.c.key_id))]


def revoke_api_key(db: Database, tenant_id: str, key_id: str) -> None:
    """Revoke a key: its next request is refused. Revoking twice is no error.

    Raises:
        MissingError: the tenant has no such key.
    """
    table = API_KEYS
    mine = (table.c.tenant_id == tenant_id, table.c.key_id == key_id)
    with db.transaction() as session:
        if session.execute(select(table.c.key_id).where(*mine).with_for_update()).first() is None:
            raise MissingError(f"tenant {tenant_id!r} has no key {redact(key_id)!r}")
        change = update(table).where(*mine, table.c.revoked_at.is_(None)).values(revoked_at=db.clock())
        if session.execute(change.returning(table.c.key_id)).first() is not None:
            append(db, session, tenant_id, "api_key.revoke", key_id)


def authenticate_key(db: Database, token: str, source: str, limiter: SourceLimiter) -> ApiKey:
    """Return the key that `token` is, as it is now: the database is asked each time, so that a revocation counts.

    Args:
        db: the control database.
        token: as it came in the Authorization header.
        source: the client's address; bounds how fast it may try unknown keys.
        limiter: the process's.

    Raises:
        Problem: 401 unknown, revoked or expired; 429 too many unknown keys; 503 the database cannot be asked.
    """
    try:
        parse(token, "api")
    except TokenFormatError as error:
        raise unauthorized("not an API key") from error
    limiter.check(source)
    table, now = API_KEYS, db.clock()
    with answering_unavailable():
        db.keys.prepare()
        with db.reading() as session:
            index = index_of(db.keys.index_key(session), token)
            wanted = select_record(ApiKey, table).add_columns(table.c.token_hmac)
            row = session.execute(wanted.where(table.c.token_hmac == index)).first()
    if row is None or not hmac.compare_digest(row.token_hmac, index):
        limiter.charge(source)
        raise unauthorized("unknown API key")
    found = ApiKey(*row[:-1])
    if found.revoked_at is not None:
        raise unauthorized("the API key is revoked", tenant=found.tenant_id)
    if found.expires_at <= now:
        raise unauthorized("the API key has expired", tenant=found.tenant_id)
    if found.last_used_at is None or now - found.last_used_at >= _NOTED_EVERY:
        with answering_unavailable(), db.transaction() as session:
            session.execute(update(table).where(table.c.key_id == found.key_id).values(last_used_at=now))
    return found
