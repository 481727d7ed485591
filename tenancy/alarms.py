"""Alarms: what an operator must see, written once however often it is noticed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from kaimon.base.logs import get_logger
from tenancy.audit import append
from tenancy.database import Database
from tenancy.metadata import insert_into, select_record
from tenancy.tables import ALARMS

CLONE: Final = "clone"
"""Two machines send under one agent's id; `subject` is `agent/load/load`, the loads in order of their names."""
BATCH_CONFLICT: Final = "batch_conflict"
"""A batch's number came again with other contents; `subject` is `agent/load/number/digest`, of what was set apart."""
HOSTNAME_CHANGED: Final = "hostname_changed"
"""A host's batches claim another name than before; `subject` is `agent/` and a digest of both names."""
ACCESS_LOST: Final = "access_lost"
"""Records of the access log could not be kept; `subject` is the process's part of the log."""
UNLANDED: Final = "unlanded"
"""Segments lie staged for more than a day and have not landed; `subject` is their node, which is the agent's place."""
LATE_DATA: Final = "erased_came_back"
"""Something was written for a tenant after it had been erased, and was deleted; `subject` is the day it was found."""
ERASURE_REQUESTED: Final = "erasure_requested"
"""A tenant's Admin asked for the erasure of everything; `subject` is when that was."""
LIFECYCLE: Final = "lifecycle"
"""A bucket's lifecycle rules are not those that they should be; `subject` is the SHA-256 of what is wrong."""
NO_TENANT: Final = "-"
"""Stands for tenant and agent where an alarm is about neither; no tenant can be called so."""


@dataclass(frozen=True)
class Alarm:
    """What happened to an agent, by ids; `subject` tells it from every other of its kind within the tenant."""

    tenant_id: str
    kind: str
    subject: str
    agent_id: str
    detail: dict[str, Any]
    raised_at: datetime


def raise_alarm(  # noqa: PLR0917 - a table's columns
    db: Database, tenant_id: str, kind: str, subject: str, agent_id: str, detail: dict[str, Any]
) -> bool:
    """Keep an alarm, log it and put it on the tenant's audit chain; return whether it is new.

    One that is known already is left as it is.

    Args:
        db: the control database.
        tenant_id: whose agent.
        kind: such as `clone`.
        subject: what tells this alarm from others of its kind; two processes that notice the same raise one.
        agent_id: which agent.
        detail: ids, counts and times only, never customers' strings.
    """
    row = Alarm(tenant_id, kind, subject, agent_id, detail, db.clock())
    new = insert_into(ALARMS, db.dialect).values(**vars(row)).on_conflict_do_nothing().returning(ALARMS.c.subject)
    with db.transaction() as session:
        fresh = session.execute(new).first() is not None
        if fresh:
            append(db, session, tenant_id, "alarm.raise", agent_id, kind=kind, **detail)
    if fresh:
        get_logger(__name__).error("alarm_raised", tenant=tenant_id, kind=kind, agent_id=agent_id, **detail)
    return fresh


def alarm_of_lost_access(db: Database, log: str, lost: int) -> None:
    """Raise an alarm, once a process, that its part of the access log has a hole; the log itself says how large."""
    raise_alarm(db, NO_TENANT, ACCESS_LOST, log, NO_TENANT, {"log": log, "lost": lost})


def list_alarms(db: Database, tenant_id: str | None = None, since: datetime | None = None) -> list[Alarm]:
    """Return alarms in the order in which they were raised; of one tenant or from a moment on where given."""
    wanted = select_record(Alarm, ALARMS).order_by(ALARMS.c.raised_at, ALARMS.c.tenant_id, ALARMS.c.subject)
    if tenant_id is not None:
        wanted = wanted.where(ALARMS.c.tenant_id == tenant_id)
    if since is not None:
        wanted = wanted.where(ALARMS.c.raised_at >= since)
    with db.reading() as session:
        return [Alarm(*row) for row in session.execute(wanted)]
