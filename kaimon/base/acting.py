"""Who is acting, for what request and from where: known to whatever is called on their behalf."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

SYSTEM: Final = "system"


@dataclass(frozen=True)
class Actor:
    """`who` is an id (`prs_…`, `agt_…`, `tok_…`, `system`), never a name; `origin` a client's address or a command."""

    who: str = SYSTEM
    origin: str | None = None
    request_id: str | None = None


_ACTOR: ContextVar[Actor] = ContextVar("kaimon_actor", default=Actor())  # noqa: B039 - frozen


def actor() -> Actor:
    """Return who is acting here."""
    return _ACTOR.get()


@contextmanager
def acting_as(who: Actor) -> Iterator[None]:
    """Act as somebody for the length of a `with`, in this thread or task and what it starts."""
    token = _ACTOR.set(who)
    try:
        yield
    finally:
        _ACTOR.reset(token)
