"""When a tenant's summaries go out, in its own time zone; summer time is the zone's affair."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo, available_timezones

from sqlalchemy import ColumnElement, select

from tenancy.audit import append
from tenancy.database import Database
from tenancy.metadata import insert_into
from tenancy.summary_tables import SUMMARY_SCHEDULES
from tenancy.tables import TENANTS

Period = Literal["day", "week"]


@dataclass(frozen=True)
class Schedule:
    """What goes out, and from which hour on by the tenant's clock."""

    tenant_id: str
    daily: bool
    weekly: bool
    time_zone: str
    hour: int


def set_schedule(db: Database, wanted: Schedule) -> None:
    """Keep a tenant's schedule; whether a model may word its summaries stays as it is.

    Raises:
        ValueError: no such tenant, no such time zone, or no such hour.
    """
    if wanted.time_zone not in available_timezones():
        raise ValueError(f"there is no time zone {wanted.time_zone!r}; want one such as America/New_York")
    if not 0 <= wanted.hour <= 23:
        raise ValueError(f"hour {wanted.hour}: want 0 to 23")
    with db.transaction() as session:
        if session.execute(select(TENANTS.c.tenant_id).where(TENANTS.c.tenant_id == wanted.tenant_id)).first() is None:
            raise ValueError(f"there is no tenant {wanted.tenant_id!r}")
        values = {name: value for name, value in vars(wanted).items() if name != "tenant_id"}
        put = insert_into(SUMMARY_SCHEDULES, db.dialect).values(**vars(wanted), model=False)
        session.execute(put.on_conflict_do_update(index_elements=["tenant_id"], set_=values))
        append(db, session, wanted.tenant_id, "report.schedule", wanted.tenant_id, **values)


def schedules(db: Database) -> list[Schedule]:
    """Return every schedule by which something goes out, by tenant."""
    return _read(db)


def schedule_of(db: Database, tenant_id: str) -> Schedule | None:
    """Return the schedule by which a tenant's summaries go out, None if none do."""
    return next(iter(_read(db, SUMMARY_SCHEDULES.c.tenant_id == tenant_id)), None)


def _read(db: Database, *where: ColumnElement[bool]) -> list[Schedule]:
    columns = [SUMMARY_SCHEDULES.c[name] for name in ("tenant_id", "daily", "weekly", "time_zone", "hour")]
    with db.reading() as session:
        rows = session.execute(select(*columns).where(*where).order_by(SUMMARY_SCHEDULES.c.tenant_id))
        found = [Schedule(*row) for row in rows]
    return [one for one in found if one.daily or one.weekly]


def due_at(schedule: Schedule, period: Period, start: date) -> datetime:
    """Return when a period's summary goes out, UTC: the first time the tenant's clock says its hour once it is over.

    Periods are days and weeks of UTC. An hour that summer time skips is the one after it; one that it repeats is the
    first.
    """
    end = datetime.combine(start + timedelta(days=7 if period == "week" else 1), time(), UTC)
    zone = ZoneInfo(schedule.time_zone)
    local = end.astimezone(zone).date()
    days = (local + timedelta(days=ahead) for ahead in range(3))
    moments = (datetime.combine(day, time(schedule.hour), zone).astimezone(UTC) for day in days)
    return next(moment for moment in moments if moment >= end)


def due(schedule: Schedule, now: datetime, back: timedelta = timedelta(days=3)) -> list[tuple[Period, date]]:
    """Return the periods whose summary fell due at most `back` ago, the oldest first."""
    today = now.astimezone(UTC).date()
    days = [today - timedelta(days=ago) for ago in range(back.days + 10, 0, -1)]
    wanted: list[tuple[Period, date]] = []
    if schedule.daily:
        wanted += [("day", day) for day in days]
    if schedule.weekly:
        wanted += [("week", day) for day in days if day.weekday() == 0]
    return [(period, day) for period, day in wanted if now - back < due_at(schedule, period, day) <= now]
