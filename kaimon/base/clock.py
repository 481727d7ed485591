"""The clock: one place that says what time it is, so that tests can say otherwise."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Anything that can be asked for the time in UTC."""

    def __call__(self) -> datetime:
        """Return an aware datetime in UTC."""
        ...


def utc_now() -> datetime:
    """Return the wall clock in UTC, aware."""
    return datetime.now(UTC)


def to_micros(moment: datetime) -> int:
    """Return microseconds since 1970-01-01T00:00:00Z; exact, unlike `timestamp()` times a million."""
    delta = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds
