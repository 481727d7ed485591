"""What the control plane answers when it says no: the same words wherever it is asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from kaimon.base.problems import Problem
from tenancy.keys import KeysAwayError


def unauthorized(detail: str) -> Problem:
    """401: an agent keeps what it has and asks again later."""
    return Problem(401, "unauthorized", "Unknown or revoked token", detail, headers={"WWW-Authenticate": "Bearer"})


def subscription_lapsed() -> Problem:
    """403: the tenant's subscription has ended."""
    return Problem(403, "subscription_lapsed", "Subscription lapsed", "the tenant's subscription has ended")


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
