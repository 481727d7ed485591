"""Enrollment: a tenant's token is swapped for a host's credential."""

from __future__ import annotations

import secrets
import unicodedata
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Row, func, insert, or_, select, update
from sqlalchemy.orm import Session

from kaimon.base.problems import Problem
from kaimon.base.redact import redact
from tenancy.audit import append
from tenancy.database import Database
from tenancy.epochs import bump_epoch
from tenancy.limits import SourceLimiter
from tenancy.metadata import select_record
from tenancy.missing import MissingError
from tenancy.refusals import answering_unavailable, subscription_lapsed, too_many_hosts, unauthorized
from tenancy.sealed import credential_context, token_context
from tenancy.subscriptions import COLUMNS, subscription_in
from tenancy.tables import ENROLLMENT_TOKENS, HOST_CREDENTIALS, HOSTS, TENANTS
from tenancy.tenants import get_tenant
from tenancy.tokens import TokenFormatError, index_of, mint, parse

_LONGEST_TEXT: Final = 1024


@dataclass(frozen=True)
class EnrollmentToken:
    """What is kept of an enrollment token for people to see: never the token."""

    token_id: str
    tenant_id: str
    prefix: str
    last_four: str
    label: str | None
    created_at: datetime
    expires_at: datetime | None
    uses: int
    max_uses: int | None
    revoked_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True)
class Enrolled:
    """A host that has just enrolled; the only time its credential is shown."""

    tenant_id: str
    agent_id: str
    credential: str = field(repr=False)


def create_token(
    db: Database,
    tenant_id: str,
    label: str | None = None,
    expires_in: timedelta | None = None,
    max_uses: int | None = None,
) -> tuple[EnrollmentToken, str]:
    """Make an enrollment token; return its record and, this once, the token.

    Raises:
        ValueError: no such tenant, or limits that nothing could meet.
        tenancy.keys.UnusableKeyError: it cannot be sealed.
    """
    if max_uses is not None and max_uses < 1:
        raise ValueError(f"max_uses {max_uses}: want at least 1")
    if expires_in is not None and expires_in <= timedelta(0):
        raise ValueError("expires_in: want a time to come")
    if get_tenant(db, tenant_id) is None:
        raise ValueError(f"there is no tenant {tenant_id!r}")
    token, now = mint("enr"), db.clock()
    record = EnrollmentToken(
        token_id=f"tok_{secrets.token_hex(8)}",
        tenant_id=tenant_id,
        prefix=token[:8],
        last_four=token[-4:],
        label=label,
        created_at=now,
        expires_at=None if expires_in is None else now + expires_in,
        uses=0,
        max_uses=max_uses,
        revoked_at=None,
        last_used_at=None,
    )
    db.keys.prepare()
    with db.transaction() as session:
        index = index_of(db.keys.index_key(session, hold=True), token)
        sealed = db.keys.seal(session, token, token_context(record.token_id))
        stored = {"token_hmac": index, "sealed": sealed.text, "sealed_with": sealed.key_id}
        session.execute(insert(ENROLLMENT_TOKENS).values(**vars(record), **stored))
        ends = None if record.expires_at is None else record.expires_at.isoformat()
        append(db, session, tenant_id, "token.create", record.token_id, max_uses=max_uses, expires_at=ends)
    return record, token


def list_tokens(db: Database, tenant_id: str) -> list[EnrollmentToken]:
    """Return a tenant's enrollment tokens, oldest first; spent and revoked ones too."""
    table = ENROLLMENT_TOKENS
    with db.reading() as session:
        wanted = select_record(EnrollmentToken, table).where(table.c.tenant_id == tenant_id)
        return [EnrollmentToken(*row) for row in session.execute(wanted.order_by(table.c.created_at, table.c.token_id))]


def revoke_token(db: Database, tenant_id: str, token_id: str) -> int:
    """Revoke a token and every credential it issued; return how many credentials that ended now.

    Workers refuse them within a second. Revoking twice is no error.

    Raises:
        MissingError: the tenant has no such token.
    """
    tokens, now = ENROLLMENT_TOKENS, db.clock()
    mine = (tokens.c.token_id == token_id, tokens.c.tenant_id == tenant_id)
    agents = select(HOSTS.c.agent_id).where(HOSTS.c.token_id == token_id)
    with db.transaction() as session:
        # FOR UPDATE: an enrollment with this token is either before (its credential is seen below) or refused.
        if session.execute(select(tokens.c.token_id).where(*mine).with_for_update()).first() is None:
            raise MissingError(f"tenant {tenant_id!r} has no token {redact(token_id)!r}")
        session.execute(update(tokens).where(*mine, tokens.c.revoked_at.is_(None)).values(revoked_at=now))
        live = (HOST_CREDENTIALS.c.agent_id.in_(agents), HOST_CREDENTIALS.c.revoked_at.is_(None))
        ended = session.execute(
            update(HOST_CREDENTIALS).where(*live).values(revoked_at=now).returning(HOST_CREDENTIALS.c.agent_id)
        ).all()
        session.execute(
            update(HOSTS).where(HOSTS.c.token_id == token_id, HOSTS.c.revoked_at.is_(None)).values(revoked_at=now)
        )
        append(db, session, tenant_id, "token.revoke", token_id, credentials_ended=len(ended))
        bump_epoch(session)
    return len(ended)


def enroll(  # noqa: PLR0917 - the contract with ingest
    db: Database,
    token: str,
    hostname: str,
    host: dict[str, Any],
    boot_id: str,
    agent_version: str,
    *,
    source: str = "",
    limiter: SourceLimiter | None = None,
) -> Enrolled:
    """Use an enrollment token once: make a host and its credential.

    Args:
        db: the control database.
        token: as it came in the Authorization header.
        hostname: fixed from now on, in the wire's escaping.
        host: os, kernel, arch, cloud.
        boot_id: of the boot that enrolls.
        agent_version: of the agent that enrolls.
        source: the client's address; with `limiter`, bounds how fast it may try unknown tokens.
        limiter: usually the worker's `Authenticator.limiter`.

    Raises:
        Problem: 400 a text that cannot be one; 401 unknown, revoked, expired or used up; 403 subscription_lapsed or
            host_limit; 429 too many unknown tokens; 503 the database cannot be asked.
    """
    for name, value in (("hostname", hostname), ("boot_id", boot_id), ("agent_version", agent_version)):
        _check_text(name, value)
    try:
        parse(token, "enr")
    except TokenFormatError as error:
        raise unauthorized("not an enrollment token") from error
    if limiter is not None:
        limiter.check(source)
    with answering_unavailable():
        db.keys.prepare()
    agent_id, credential = f"agt_{secrets.token_hex(8)}", mint("hst")
    with answering_unavailable(), db.transaction() as session:
        # The time once the lock is ours: a token must not be used after its end because others were in the way.
        now = db.clock()
        key = db.keys.index_key(session, hold=True)
        found = _find(session, index_of(key, token))
        if found is None:
            if limiter is not None:
                limiter.charge(source)
            raise unauthorized("unknown enrollment token")
        subscription = subscription_in(found, db.settings)
        if (lapse := subscription.lapse(now)) is not None:
            raise subscription_lapsed(lapse, tenant=found.tenant_id)
        _use(session, found, now)
        if subscription.max_hosts is not None:
            _require_room(session, found.tenant_id, subscription.max_hosts)
        session.execute(
            insert(HOSTS).values(
                agent_id=agent_id,
                tenant_id=found.tenant_id,
                token_id=found.token_id,
                hostname=hostname,
                boot_id=boot_id,
                agent_version=agent_version,
                host=host,
                enrolled_at=now,
            )
        )
        sealed = db.keys.seal(session, credential, credential_context(agent_id))
        session.execute(
            insert(HOST_CREDENTIALS).values(
                token_hmac=index_of(key, credential),
                agent_id=agent_id,
                last_four=credential[-4:],
                created_at=now,
                sealed=sealed.text,
                sealed_with=sealed.key_id,
            )
        )
        append(db, session, found.tenant_id, "host.enroll", agent_id, token=found.token_id, uses=found.uses + 1)
    return Enrolled(found.tenant_id, agent_id, credential)


def _find(session: Session, index: str) -> Row[Any] | None:
    """Return the token's row with its tenant's subscription."""
    tokens = ENROLLMENT_TOKENS
    return session.execute(
        select(tokens, *COLUMNS)
        .join(TENANTS, TENANTS.c.tenant_id == tokens.c.tenant_id)
        .where(tokens.c.token_hmac == index)
    ).first()


def _use(session: Session, found: Row[Any], now: datetime) -> None:
    """Count one use, in one statement that nobody can get between."""
    tokens = ENROLLMENT_TOKENS
    counted = session.execute(
        update(tokens)
        .where(
            tokens.c.token_id == found.token_id,
            tokens.c.revoked_at.is_(None),
            or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > now),
            or_(tokens.c.max_uses.is_(None), tokens.c.uses < tokens.c.max_uses),
        )
        .values(uses=tokens.c.uses + 1, last_used_at=now)
        .returning(tokens.c.token_id)
    ).first()
    if counted is not None:
        return
    tenant = found.tenant_id
    # Looked at again: it may have been revoked since it was found.
    found = session.execute(select(tokens).where(tokens.c.token_id == found.token_id)).one()
    if found.revoked_at is not None:
        raise unauthorized("the enrollment token is revoked", tenant=tenant)
    if found.expires_at is not None and found.expires_at <= now:
        raise unauthorized("the enrollment token has expired", tenant=tenant)
    raise unauthorized("the enrollment token is used up", tenant=tenant)


def _require_room(session: Session, tenant_id: str, most: int) -> None:
    """Refuse one host too many, exactly: enrollments of one tenant take turns here."""
    session.execute(select(TENANTS.c.tenant_id).where(TENANTS.c.tenant_id == tenant_id).with_for_update(key_share=True))
    live = (HOSTS.c.tenant_id == tenant_id, HOSTS.c.revoked_at.is_(None))
    if session.execute(select(func.count()).select_from(HOSTS).where(*live)).scalar_one() >= most:
        raise too_many_hosts(most, tenant=tenant_id)


def _check_text(name: str, value: str) -> None:
    """Refuse what the wire's escaping cannot have made: PostgreSQL would choke on it, people would be misled by it."""
    if not 0 < len(value) <= _LONGEST_TEXT or any(unicodedata.category(sign) in ("Cc", "Cs") for sign in value):
        raise Problem(
            400, "bad_enrollment", "Bad enrollment", f"{name}: want 1 to {_LONGEST_TEXT} printable characters"
        )
