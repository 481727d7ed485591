"""What the control plane answers when it says no: the same words wherever it is asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from kaimon.base.problems import Problem
from tenancy.keys import KeysAwayError
from tenancy.subscriptions import Lapse


def unauthorized(detail: str, **about: str) -> Problem:
    """401: an agent keeps what it has and asks again later."""
    headers = {"WWW-Authenticate": "Bearer"}
    return Problem(401, "unauthorized", "Unknown or revoked token", detail, headers, about=about)


def subscription_lapsed(lapse: Lapse, **about: str) -> Problem:
    """403: the tenant's subscription has ended; an agent keeps what it has and asks again later."""
    return Problem(403, "subscription_lapsed", "Subscription lapsed", str(lapse), about=about)


def too_many_hosts(most: int, **about: str) -> Problem:
    """403: the tenant has as many hosts as its subscription allows."""
    return Problem(403, "host_limit", "Too many hosts", f"the subscription allows {most} hosts", about=about)


def too_many_events(most: int, wait_s: int, **about: str) -> Problem:
    """429: the tenant has sent as many events today as its subscription allows; an agent keeps what it has."""
    detail = f"the subscription allows {most} events in a UTC day"
    after = {"Retry-After": str(wait_s)}
    return Problem(429, "daily_limit", "Too many events today", detail, after, about=about)


def too_many_unknown(wait_s: float) -> Problem:
    """429: this source tried too many tokens that nobody issued."""
    after = {"Retry-After": str(max(1, ceil(wait_s)))}
    return Problem(429, "too_many_unknown_tokens", "Too many unknown tokens", "from this address", headers=after)


def unavailable(detail: str) -> Problem:
    """503: the control database cannot be asked."""
    return Problem(503, "control_plane_unavailable", "Temporarily unavailable", detail, headers={"Retry-After": "5"})


@contextmanager
def answering_unavailable() -> Iterator[None]:
    """Turn a database or a key management service that cannot be asked into a 503."""
    try:
        yield
    except KeysAwayError as error:
        raise unavailable("the keys cannot be unwrapped") from error
    except (DBAPIError, PoolTimeoutError) as error:
        raise unavailable("the control database cannot be reached") from error
