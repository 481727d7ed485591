"""Subscriptions: what was agreed with a tenant, what it may send, and from when on it may not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from tenancy.settings import TenancySettings
from tenancy.tables import TENANTS

STATES: Final = ("trial", "active", "past_due", "ended")
"""As they are set. A `trial` and a `past_due` have an end of their own, from which they count as `ended`."""

COLUMNS: Final = (
    TENANTS.c.subscription,
    TENANTS.c.subscription_since,
    TENANTS.c.trial_ends_at,
    TENANTS.c.grace_ends_at,
    TENANTS.c.max_hosts,
    TENANTS.c.max_daily_events,
)
"""What `subscription_in` wants in a row."""
_ENDS: Final = {"trial": "the trial ended", "past_due": "payment is past due, and its grace ended"}


@dataclass(frozen=True, slots=True)
class Lapse:
    """Why a tenant may not send, and since when; None where nobody wrote that down."""

    reason: str
    since: datetime | None

    def __str__(self) -> str:
        """For people: the reason and the moment."""
        return self.reason if self.since is None else f"{self.reason} at {moment(self.since)}"


@dataclass(frozen=True, slots=True)
class Subscription:
    """What was agreed. Dates take effect by themselves, wherever it is remembered: nobody need write anything.

    The limits are those in force, whether agreed or the trial's defaults; None is none.
    """

    state: str
    since: datetime | None = None
    trial_ends_at: datetime | None = None
    grace_ends_at: datetime | None = None
    max_hosts: int | None = None
    max_daily_events: int | None = None

    @property
    def ends_at(self) -> datetime | None:
        """When it ends by itself; None: never, or it has been ended."""
        return {"trial": self.trial_ends_at, "past_due": self.grace_ends_at}.get(self.state)

    def lapse(self, now: datetime) -> Lapse | None:
        """Return why nothing may be sent at `now`, or None."""
        if self.state == "ended":
            return Lapse("the subscription was ended", self.since)
        ends_at = self.ends_at
        if ends_at is None or now < ends_at:
            return None
        return Lapse(_ENDS[self.state], ends_at)

    def state_at(self, now: datetime) -> str:
        """Return the state that counts at `now`."""
        return self.state if self.lapse(now) is None else "ended"

    @property
    def warning(self) -> str | None:
        """Return what a sender is told of it with every answer, or None: `past_due; grace_ends_at=…`."""
        if self.state != "past_due":
            return None
        return self.state if self.grace_ends_at is None else f"{self.state}; grace_ends_at={moment(self.grace_ends_at)}"


def subscription_in(row: Any, settings: TenancySettings) -> Subscription:
    """Return the subscription that a row with `COLUMNS` holds, with the limits that are in force."""
    trial = row.subscription == "trial"
    hosts, events = row.max_hosts, row.max_daily_events
    return Subscription(
        row.subscription,
        row.subscription_since,
        row.trial_ends_at,
        row.grace_ends_at,
        settings.trial_max_hosts if trial and hosts is None else hosts,
        settings.trial_daily_events if trial and events is None else events,
    )


def moment(when: datetime) -> str:
    """Return a moment as text, to the second: `2026-12-25T09:00:00Z`."""
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")
