"""What `kaimon doctor` says of one thing: a level, the thing, and a sentence that says what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

Level = Literal["ok", "warn", "fail"]
LEVELS: Final[tuple[Level, ...]] = ("ok", "warn", "fail")


@dataclass(frozen=True)
class Finding:
    """`warn`: it works, but look at it. `fail`: it does not work, or is open to others."""

    level: Level
    about: str
    said: str


def ok(about: str, said: str) -> Finding:
    """Return what needs nobody."""
    return Finding("ok", about, said)


def warn(about: str, said: str) -> Finding:
    """Return what somebody should look at, or what cannot be told."""
    return Finding("warn", about, said)


def fail(about: str, said: str) -> Finding:
    """Return what must be mended."""
    return Finding("fail", about, said)


def looked_at(about: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """Return what a check finds; one that breaks is a finding itself, and the others go on."""
    try:
        return list(check())
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what is wrong
        return [fail(about, f"cannot be looked at: {type(error).__name__}: {error}")]
