"""Which command runs: what the access log calls it, and the tenant that it names."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any

_RUNNING: ContextVar[tuple[str, str | None]] = ContextVar("kaimon_command", default=("kaimon", None))


def running() -> tuple[str, str | None]:
    """Return the command's words, without options or arguments, which may hold anything; and its tenant."""
    return _RUNNING.get()


def named(words: str, command: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command that says what it is called while it runs."""

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> Any:
        tenant = options.get("tenant") or options.get("tenant_id")
        token = _RUNNING.set((words, tenant if isinstance(tenant, str) else None))
        try:
            return command(*arguments, **options)
        finally:
            _RUNNING.reset(token)

    return run
