"""Hosts: who enrolled, when, and whether they may still speak."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tenancy.database import Database
from tenancy.tables import HOSTS, select_record


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
