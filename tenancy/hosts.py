"""Hosts: who enrolled, when, and whether they may still speak; and the end of that."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update

from kaimon.base.redact import redact
from tenancy.audit import append
from tenancy.database import Database
from tenancy.epochs import bump_epoch
from tenancy.metadata import select_record
from tenancy.tables import HOST_CREDENTIALS, HOSTS


@dataclass(frozen=True)
class Host:
    """An enrolled host; `hostname` is as it was at enrollment, in the wire's escaping."""

    agent_id: str
    tenant_id: str
    hostname: str
    enrolled_at: datetime
    revoked_at: datetime | None
    token_id: str


def list_hosts(db: Database, tenant_id: str) -> list[Host]:
    """Return a tenant's hosts, in the order they enrolled; revoked ones too."""
    with db.reading() as session:
        wanted = select_record(Host, HOSTS).where(HOSTS.c.tenant_id == tenant_id)
        return [Host(*row) for row in session.execute(wanted.order_by(HOSTS.c.enrolled_at, HOSTS.c.agent_id))]


def revoke_host(db: Database, tenant_id: str, agent_id: str) -> bool:
    """Revoke one host's credential; return whether it was live. Workers refuse it within a second.

    Raises:
        ValueError: the tenant has no such host.
    """
    mine, now = (HOSTS.c.agent_id == agent_id, HOSTS.c.tenant_id == tenant_id), db.clock()
    with db.transaction() as session:
        found = session.execute(select(HOSTS.c.revoked_at).where(*mine).with_for_update()).first()
        if found is None:
            raise ValueError(f"tenant {tenant_id!r} has no host {redact(agent_id)!r}")
        if found.revoked_at is not None:
            return False
        session.execute(update(HOSTS).where(*mine).values(revoked_at=now))
        live = (HOST_CREDENTIALS.c.agent_id == agent_id, HOST_CREDENTIALS.c.revoked_at.is_(None))
        session.execute(update(HOST_CREDENTIALS).where(*live).values(revoked_at=now))
        append(db, session, tenant_id, "host.revoke", agent_id)
        bump_epoch(session)
    return True
