"""An alert in words: a subject, a few lines, and the JSON that a webhook gets. Ids, counts and times only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from tenancy.alarms import NO_TENANT
from tenancy.alerts import Notice

_SAYS: Final = {
    "run_failed": "a run failed",
    "stale": "data is late",
    "unaccounted": "events are unaccounted for",
    "day_failed": "a day failed its checks",
    "quarantine": "lines pile up in quarantine",
    "alarm": "an alarm was raised",
    "database_away": "the control database is away",
    "test": "this is only a test",
}
MOST: Final = 50
"""Alerts that a mail about many names one by one."""
ANCHORS: Final = {
    "run_failed": "a-run-failed",
    "stale": "landing-is-behind",
    "unaccounted": "events-are-unaccounted-for",
    "day_failed": "a-tenants-day-fails-its-checks",
    "quarantine": "quarantine-grows",
    "alarm": "an-agent-was-cloned-or-its-batch-conflicts",
    "database_away": "the-control-database-is-away",
    "test": "alerts",
}
"""Where in the runbook each kind of alert is."""


def headline(notice: Notice) -> str:
    """Return the alert in one line."""
    alert = notice.alert
    whose = "" if alert.tenant_id == NO_TENANT else f" of {alert.tenant_id}"
    return f"[kaimon] {notice.state}: {_SAYS.get(alert.kind, alert.kind)}{whose} ({alert.subject})"


def runbook(kind: str, address: str) -> str:
    """Return where the runbook says what to do."""
    return f"{address}#{ANCHORS[kind]}" if kind in ANCHORS else address


def text(notice: Notice, address: str) -> str:
    """Return the alert for people."""
    alert = notice.alert
    lines = [headline(notice), ""]
    lines += [f"{name}: {value}" for name, value in _facts(notice).items() if value is not None]
    lines += [f"{name}: {_plain(value)}" for name, value in alert.detail.items()]
    return "\n".join([*lines, "", f"What to do: {runbook(alert.kind, address)}", ""])


def headline_of_many(notices: Sequence[Notice]) -> str:
    """Return alerts of one kind and state in one line."""
    kind, tenants = notices[0].alert.kind, len({one.alert.tenant_id for one in notices})
    whose = "1 tenant" if tenants == 1 else f"{tenants:,} tenants"
    return f"[kaimon] {notices[0].state}: {_SAYS.get(kind, kind)} of {whose} ({len(notices):,} alerts)"


def text_of_many(notices: Sequence[Notice], address: str) -> str:
    """Return alerts of one kind and state for people: the first `MOST` by tenant, and how many more there are."""
    lines = [headline_of_many(notices), ""]
    for notice in sorted(notices, key=lambda one: (one.alert.tenant_id, one.alert.subject))[:MOST]:
        alert = notice.alert
        at = alert.raised_at if alert.cleared_at is None else alert.cleared_at
        lines.append(f"{alert.tenant_id}: {alert.subject}, {at.isoformat(timespec='seconds')}, {alert.alert_id}")
    if len(notices) > MOST:
        lines.append(f"and {len(notices) - MOST:,} more: kaimon alert list")
    return "\n".join([*lines, "", f"What to do: {runbook(notices[0].alert.kind, address)}", ""])


def document(notice: Notice, address: str) -> dict[str, Any]:
    """Return the alert for programs; `text` is its one line, which chat services show as it is."""
    return {
        **_facts(notice),
        "detail": notice.alert.detail,
        "text": f"{headline(notice)} {runbook(notice.alert.kind, address)}",
        "runbook": runbook(notice.alert.kind, address),
    }


def _facts(notice: Notice) -> dict[str, str | None]:
    alert = notice.alert
    return {
        "alert": alert.alert_id,
        "state": notice.state,
        "kind": alert.kind,
        "tenant": None if alert.tenant_id == NO_TENANT else alert.tenant_id,
        "subject": alert.subject,
        "raised_at": alert.raised_at.isoformat(),
        "cleared_at": None if alert.cleared_at is None else alert.cleared_at.isoformat(),
    }


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
