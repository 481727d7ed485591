"""Whether a language model may word a tenant's summaries: not before somebody says so, and never after they say no."""

from __future__ import annotations

from typing import Final

from sqlalchemy import select

from tenancy.audit import append
from tenancy.database import Database
from tenancy.metadata import insert_into
from tenancy.summary_tables import SUMMARY_SCHEDULES
from tenancy.tables import TENANTS

_NEW: Final = {"daily": False, "weekly": False, "time_zone": "UTC", "hour": 6}
"""What a tenant that has no schedule has: nothing is sent."""


def model_allowed(db: Database, tenant_id: str) -> bool:
    """Say whether a model may word this tenant's summaries."""
    with db.reading() as session:
        mine = SUMMARY_SCHEDULES.c.tenant_id == tenant_id
        return bool(session.execute(select(SUMMARY_SCHEDULES.c.model).where(mine)).scalar())


def allow_model(db: Database, tenant_id: str, *, allowed: bool) -> None:
    """Let a model word a tenant's summaries, or not; its schedule stays as it is. It is on the tenant's audit chain.

    Raises:
        ValueError: no such tenant.
    """
    with db.transaction() as session:
        if session.execute(select(TENANTS.c.tenant_id).where(TENANTS.c.tenant_id == tenant_id)).first() is None:
            raise ValueError(f"there is no tenant {tenant_id!r}")
        put = insert_into(SUMMARY_SCHEDULES, db.dialect).values(tenant_id=tenant_id, model=allowed, **_NEW)
        session.execute(put.on_conflict_do_update(index_elements=["tenant_id"], set_={"model": allowed}))
        append(db, session, tenant_id, "summary.model", tenant_id, allowed=allowed)
