"""Alerts: what operators are told outside, once when its cause is noticed and once when it is over, on each channel."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, delete, select, update

from kaimon.base.logs import get_logger
from tenancy.alarms import NO_TENANT
from tenancy.database import Database
from tenancy.metadata import insert_into, select_record
from tenancy.tables import ALERT_NOTICES, ALERTS

State = Literal["raised", "cleared"]
ATTEMPTS: Final = 12
"""How often a channel is tried for one notice: at once, then after longer and longer, some six hours in all."""

_FIRST_PAUSE: Final = timedelta(seconds=30)
_LONGEST_PAUSE: Final = timedelta(hours=1)
_TOLD_FOR: Final = timedelta(days=7)
_KEPT: Final = timedelta(days=90)
_AT_ONCE: Final = 500
"""Rows of one statement: SQLite takes 32,766 values."""
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Cause:
    """What is wrong now, by ids and counts; `kind`, `tenant_id` and `subject` tell it from every other.

    One that is not `certain` raises nothing: it only keeps an alert from being cleared.
    """

    kind: str
    subject: str
    tenant_id: str = NO_TENANT
    detail: dict[str, Any] = field(default_factory=dict)
    certain: bool = True

    @property
    def key(self) -> Key:
        """What tells it from every other."""
        return self.kind, self.tenant_id, self.subject


@dataclass(frozen=True)
class Alert:
    """A cause that was noticed; `cleared_at` is when it was found to be over."""

    alert_id: str
    tenant_id: str
    kind: str
    subject: str
    detail: dict[str, Any]
    raised_at: datetime
    cleared_at: datetime | None = None

    @property
    def key(self) -> Key:
        """What tells it from every other that is open."""
        return self.kind, self.tenant_id, self.subject


@dataclass(frozen=True)
class Notice:
    """That an alert is to be told on a channel, as `raised` or as `cleared`; `attempts` have failed."""

    alert: Alert
    channel: str
    state: State
    attempts: int = 0


def raise_alert(db: Database, cause: Cause) -> bool:
    """Keep an alert for a cause and log it, unless one is open already; return whether it is new."""
    return bool(raise_alerts(db, [cause]))


def raise_alerts(db: Database, causes: Iterable[Cause]) -> list[Alert]:
    """Keep an alert for each cause that has none open, in one transaction, and log it; return those that are new."""
    now = db.clock()
    rows = [
        Alert(f"alr_{secrets.token_hex(8)}", cause.tenant_id, cause.kind, cause.subject, cause.detail, now)
        for cause in causes
    ]
    fresh: set[str] = set()
    with db.transaction() as session:
        for begin in range(0, len(rows), _AT_ONCE):
            some = rows[begin : begin + _AT_ONCE]
            new = insert_into(ALERTS, db.dialect).values([vars(row) for row in some]).on_conflict_do_nothing()
            fresh.update(session.execute(new.returning(ALERTS.c.alert_id)).scalars())
    raised = [row for row in rows if row.alert_id in fresh]
    for row in raised:
        told = {"alert": row.alert_id, "kind": row.kind, "tenant": row.tenant_id, "subject": row.subject}
        get_logger(__name__).error("alert_raised", **told, **row.detail)
    return raised


def reconcile(db: Database, causes: Iterable[Cause], kinds: Iterable[str]) -> None:
    """Raise an alert for each cause that has none, and clear those of `kinds` whose cause is gone."""
    found = {cause.key: cause for cause in causes}
    open_ones = {alert.key: alert for alert in open_alerts(db)}
    raise_alerts(db, [cause for key, cause in found.items() if cause.certain and key not in open_ones])
    looked_at = set(kinds)
    for key, alert in open_ones.items():
        if alert.kind in looked_at and key not in found:
            _clear(db, alert)


def open_alerts(db: Database) -> list[Alert]:
    """Return the alerts whose causes last, oldest first."""
    return _read(db, ALERTS.c.cleared_at.is_(None))


def list_alerts(db: Database, since: datetime | None = None) -> list[Alert]:
    """Return alerts, oldest first; with `since` only those that were open then or have been raised after it."""
    return _read(db, *(() if since is None else (ALERTS.c.cleared_at.is_(None) | (ALERTS.c.cleared_at >= since),)))


def due_notices(db: Database, channels: Iterable[str]) -> list[Notice]:
    """Return what is to be told now, oldest first.

    On each channel an alert is told as raised before it is told as cleared. What was over before anybody tried to tell
    it is not told: so a channel that is set up later hears of what is still open.
    """
    now = db.clock()
    alerts = list_alerts(db, now - _TOLD_FOR)
    with db.reading() as session:
        known = {(row.alert_id, row.channel, row.state): row for row in session.execute(select(ALERT_NOTICES))}
    due: list[Notice] = []
    for alert in alerts:
        for channel in channels:
            notice = _next(alert, channel, known, now)
            if notice is not None:
                due.append(notice)
    return due


def note_sent(db: Database, notices: Iterable[Notice]) -> None:
    """Say that notices were taken: they are never sent again."""
    now = db.clock()
    _note(db, [(notice, {"sent_at": now}) for notice in notices])


def note_failed(db: Database, notices: Iterable[Notice]) -> None:
    """Say that notices were not taken; each is due again later, and after `ATTEMPTS` never again."""
    now, changes, given_up = db.clock(), [], []
    for notice in notices:
        attempts = notice.attempts + 1
        pause = min(_FIRST_PAUSE * 2**notice.attempts, _LONGEST_PAUSE)
        changes.append((notice, {"attempts": attempts, "due_at": now + pause}))
        if attempts >= ATTEMPTS:
            given_up.append(notice)
    _note(db, changes)
    for notice in given_up:
        told = {"alert": notice.alert.alert_id, "channel": notice.channel, "state": notice.state}
        get_logger(__name__).error("alert_given_up", attempts=notice.attempts + 1, **told)


def forget_old(db: Database) -> int:
    """Delete alerts that were over 90 days ago, and what was told of alerts that are gone; return how many alerts."""
    with db.transaction() as session:
        old = delete(ALERTS).where(ALERTS.c.cleared_at < db.clock() - _KEPT)
        gone = len(session.execute(old.returning(ALERTS.c.alert_id)).all())
        session.execute(delete(ALERT_NOTICES).where(ALERT_NOTICES.c.alert_id.not_in(select(ALERTS.c.alert_id))))
    return gone


def _read(db: Database, *which: ColumnElement[bool]) -> list[Alert]:
    wanted = select_record(Alert, ALERTS).where(*which).order_by(ALERTS.c.raised_at, ALERTS.c.alert_id)
    with db.reading() as session:
        return [Alert(*row) for row in session.execute(wanted)]


def _next(alert: Alert, channel: str, known: Mapping[tuple[str, str, str], Any], now: datetime) -> Notice | None:
    for state in ("raised", "cleared"):
        if state == "cleared" and alert.cleared_at is None:
            return None
        row = known.get((alert.alert_id, channel, state))
        if row is None:
            if state == "raised" and alert.cleared_at is not None:
                return None
            return Notice(alert, channel, state)
        if row.sent_at is None and row.attempts < ATTEMPTS:
            return Notice(alert, channel, state, row.attempts) if row.due_at <= now else None
    return None


def _clear(db: Database, alert: Alert) -> None:
    mine = (ALERTS.c.alert_id == alert.alert_id, ALERTS.c.cleared_at.is_(None))
    with db.transaction() as session:
        done = update(ALERTS).where(*mine).values(cleared_at=db.clock()).returning(ALERTS.c.alert_id)
        cleared = session.execute(done).first() is not None
    if cleared:
        told = {"alert": alert.alert_id, "kind": alert.kind, "tenant": alert.tenant_id, "subject": alert.subject}
        get_logger(__name__).info("alert_cleared", **told)


def _note(db: Database, changes: Iterable[tuple[Notice, dict[str, Any]]]) -> None:
    with db.transaction() as session:
        for notice, change in changes:
            key = {"alert_id": notice.alert.alert_id, "channel": notice.channel, "state": notice.state}
            row = {**key, "attempts": notice.attempts, "due_at": db.clock(), "sent_at": None} | change
            new = insert_into(ALERT_NOTICES, db.dialect).values(**row)
            session.execute(new.on_conflict_do_update(index_elements=list(key), set_=change))
