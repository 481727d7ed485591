"""Day states: whether a tenant's day has new data, and what its checks said about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from typing import Any, Final

from sqlalchemy import Insert, select, update

from tenancy.database import Database
from tenancy.metadata import insert_into, select_record
from tenancy.tables import DAY_STATES, UNSETTLED

STATES: Final = ("open", "passed", "failed")
"""`open`: data came since the last check. The other two: what the check said about all data there is."""


@dataclass(frozen=True)
class DayState:
    """One tenant's day; `version` grows whenever data arrives, never when a check speaks.

    All that had arrived by `sealed_version` is sealed; 0 if nothing is.
    """

    tenant_id: str
    day: date
    state: str
    detail: dict[str, Any]
    changed_at: datetime
    version: int
    sealed_version: int = 0


def mark_open(db: Database, tenant_id: str, days: Iterable[date]) -> None:
    """Say that data arrived for these days: their checks are void, and checks that are running will be."""
    now = db.clock()
    rows = [
        {"tenant_id": tenant_id, "day": day, "state": "open", "detail": {}, "changed_at": now, "version": 1}
        for day in sorted(set(days))
    ]
    if not rows:
        return
    with db.transaction() as session:
        session.execute(_reopening(db.dialect), rows)


@cache
def _reopening(dialect: str) -> Insert:
    """Return the statement of `mark_open`, made once: landing needs it twice for every few rows of a tenant."""
    new = insert_into(DAY_STATES, dialect)
    return new.on_conflict_do_update(
        index_elements=[DAY_STATES.c.tenant_id, DAY_STATES.c.day],
        set_={
            "state": "open",
            "detail": new.excluded.detail,
            "changed_at": new.excluded.changed_at,
            "version": DAY_STATES.c.version + 1,
        },
    )


def set_checked(  # noqa: PLR0917 - the contract with the pipelines
    db: Database, tenant_id: str, day: date, passed: bool, detail: dict[str, Any], seen_version: int
) -> bool:
    """Record what a check said, if no data arrived since it began; return whether it was recorded.

    Args:
        db: the control database.
        tenant_id: whose day.
        day: which day, UTC.
        passed: whether all was well.
        detail: ids and counts only, never customers' strings.
        seen_version: the day's version, read before the data was.
    """
    with db.transaction() as session:
        changed = session.execute(
            update(DAY_STATES)
            .where(DAY_STATES.c.tenant_id == tenant_id, DAY_STATES.c.day == day, DAY_STATES.c.version == seen_version)
            .values(state="passed" if passed else "failed", detail=detail, changed_at=db.clock())
            .returning(DAY_STATES.c.version)
        ).first()
    return changed is not None


def set_sealed(db: Database, tenant_id: str, day: date, seen_version: int) -> None:
    """Record that a day is sealed as far as it had come; what a later seal has recorded stays.

    Args:
        db: the control database.
        tenant_id: whose day.
        day: which day, UTC.
        seen_version: the day's version, read before its data was.
    """
    mine = (DAY_STATES.c.tenant_id == tenant_id, DAY_STATES.c.day == day, DAY_STATES.c.sealed_version < seen_version)
    with db.transaction() as session:
        session.execute(update(DAY_STATES).where(*mine).values(sealed_version=seen_version))


def get(db: Database, tenant_id: str, day: date) -> DayState | None:
    """Return a day's state, None if no data ever arrived for it."""
    with db.reading() as session:
        wanted = select_record(DayState, DAY_STATES).where(DAY_STATES.c.tenant_id == tenant_id, DAY_STATES.c.day == day)
        row = session.execute(wanted).first()
        return None if row is None else DayState(*row)


def unsettled(db: Database) -> list[DayState]:
    """Return every state that is not `passed`, by tenant and day: few, however many days there are."""
    wanted = select_record(DayState, DAY_STATES).where(UNSETTLED)
    with db.reading() as session:
        rows = session.execute(wanted.order_by(DAY_STATES.c.tenant_id, DAY_STATES.c.day))
        return [DayState(*row) for row in rows]


def with_news(db: Database, first: date, last: date) -> list[date]:
    """Return the days from `first` to `last` on which any tenant has news, in order.

    News is data since its check, or since the seal of a day whose check has passed. The database looks, however many
    tenants and days there are.
    """
    news = (DAY_STATES.c.state == "open") | (
        (DAY_STATES.c.state == "passed") & (DAY_STATES.c.version > DAY_STATES.c.sealed_version)
    )
    wanted = select(DAY_STATES.c.day).where(DAY_STATES.c.day.between(first, last), news).distinct()
    with db.reading() as session:
        return [day for (day,) in session.execute(wanted.order_by(DAY_STATES.c.day))]


def list_days(db: Database, tenant_id: str | None = None, day: date | None = None) -> list[DayState]:
    """Return states by tenant and day; of one tenant or one day where given."""
    wanted = select_record(DayState, DAY_STATES).order_by(DAY_STATES.c.tenant_id, DAY_STATES.c.day)
    if tenant_id is not None:
        wanted = wanted.where(DAY_STATES.c.tenant_id == tenant_id)
    if day is not None:
        wanted = wanted.where(DAY_STATES.c.day == day)
    with db.reading() as session:
        return [DayState(*row) for row in session.execute(wanted)]
