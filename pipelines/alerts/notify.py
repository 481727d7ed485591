"""Looks for what is wrong, keeps an alert a cause, and tells each on every channel."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Final

from dagster import DagsterInstance

from kaimon.base.logs import get_logger
from pipelines.alerts import causes
from pipelines.alerts.channels import CHANNELS, TOGETHER
from pipelines.settings import AlertSettings, PipelineSettings
from tenancy.alarms import NO_TENANT
from tenancy.alerts import Alert, Cause, Notice, due_notices, note_failed, note_sent, open_alerts, reconcile
from tenancy.database import Database
from tenancy.days import unsettled

_BUDGET_S: Final = 25.0
"""How long one look may spend on telling; the rest is due at the next."""
_FEW: Final = 5
"""As many alerts of a kind are mailed one by one; when landing stands still, each tenant has one."""


def look(db: Database, instance: DagsterInstance, pipelines: PipelineSettings, alerts: AlertSettings) -> None:
    """Raise and clear alerts by what is wrong now; a look that fails leaves its kinds as they are."""
    known = open_alerts(db)
    days = cache(lambda: unsettled(db))
    looks: list[tuple[tuple[str, ...], Callable[[], list[Cause]]]] = [
        ((causes.RUN_FAILED,), lambda: causes.failed_runs(instance, db.clock(), known)),
        ((causes.STALE,), lambda: causes.stale_tenants(db, days(), pipelines, alerts)),
        ((causes.UNACCOUNTED, causes.DAY_FAILED), lambda: causes.failed_days(days())),
        ((causes.QUARANTINE,), lambda: causes.full_quarantines(db, alerts)),
        ((causes.ALARM,), lambda: causes.raised_alarms(db)),
    ]
    found: list[Cause] = []
    kinds: set[str] = set()
    for about, ask in looks:
        try:
            found += ask()
        except Exception:  # noqa: BLE001 - whatever it is, the others are looked at
            get_logger(__name__).exception("alert_look_failed", kinds=list(about))
        else:
            kinds.update(about)
    reconcile(db, found, kinds)


def fallback(settings: AlertSettings, cursor: str | None, now: datetime, *, away: bool) -> str | None:
    """Tell that the control database is away, or is there again, without it; return what to remember.

    What is remembered is a cursor: the alert, and the channels that have been told of it so far.
    """
    if not away and not cursor:
        return None
    fresh = {"alert": f"alr_{int(now.timestamp()):016x}", "at": now.isoformat(), "told": []}
    known: dict[str, Any] = json.loads(cursor) if cursor else fresh
    told = set(known["told"])
    since = datetime.fromisoformat(known["at"])
    alert = Alert(known["alert"], NO_TENANT, causes.DATABASE_AWAY, "control", {}, since, None if away else now)
    for channel in settings.channels:
        if (channel in told) == away:
            continue
        notice = Notice(alert, channel, "raised" if away else "cleared")
        if why := attempt([notice], settings, now):
            get_logger(__name__).warning("alert_not_taken", channel=channel, why=why, kind=alert.kind)
        else:
            told ^= {channel}
    return json.dumps(known | {"told": sorted(told)}) if away or told else None


def tell(db: Database, settings: AlertSettings) -> Counter[str]:
    """Send what is due; return how many notices were `sent`, `failed` and, for lack of time, `left`.

    A notice is written down as sent once it was taken: whoever dies in between sends it again, under the same name.
    """
    counts: Counter[str] = Counter()
    began = time.monotonic()
    for notices in together(due_notices(db, settings.channels)):
        if time.monotonic() - began > _BUDGET_S:
            counts["left"] += len(notices)
        elif why := attempt(notices, settings, db.clock()):
            note_failed(db, notices)
            first = notices[0]
            told = {"alert": first.alert.alert_id, "channel": first.channel, "state": first.state}
            counted = {"attempt": first.attempts + 1, "alerts": len(notices)}
            get_logger(__name__).warning("alert_not_taken", why=why, **told, **counted)
            counts["failed"] += len(notices)
        else:
            note_sent(db, notices)
            counts["sent"] += len(notices)
    return counts


def together(due: Iterable[Notice]) -> list[list[Notice]]:
    """Put notices of one kind and state together that people would else get as more than `_FEW` mails at once."""
    groups: dict[tuple[str, ...], list[Notice]] = {}
    for notice in due:
        key = (notice.channel, notice.alert.kind, notice.state)
        groups.setdefault(key if notice.channel in TOGETHER else (*key, notice.alert.alert_id), []).append(notice)
    return [
        part for group in groups.values() for part in ([group] if len(group) > _FEW else [[notice] for notice in group])
    ]


def attempt(notices: Sequence[Notice], settings: AlertSettings, now: datetime) -> str | None:
    """Send notices of one channel, kind and state; return None if they were taken, else why not."""
    try:
        CHANNELS[notices[0].channel](notices, settings, now)
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not keep the others back
        return f"{type(error).__name__}: {error}"
    return None
