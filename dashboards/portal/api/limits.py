"""How many requests a key may make: counted by the minute, told with every answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Final

WINDOW_S: Final = 60
_KEYS: Final = 10_000


@dataclass(frozen=True)
class Allowance:
    """What is left to a key of its minute; `over` says that this request was one too many."""

    most: int
    left: int
    reset_s: int
    over: bool

    @property
    def headers(self) -> dict[str, str]:
        """RateLimit and its policy, as the IETF's draft writes them."""
        return {
            "RateLimit-Policy": f'"minute";q={self.most};w={WINDOW_S}',
            "RateLimit": f'"minute";r={self.left};t={self.reset_s}',
        }


class RateLimit:
    """Counts by key. Thread-safe; the portal is one process, so the count is exact."""

    def __init__(self, most: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Allow `most` a minute."""
        self._most = most
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._counts: dict[str, tuple[float, int]] = {}

    def take(self, key_id: str) -> Allowance:
        """Count a request."""
        now = self._monotonic()
        with self._lock:
            if len(self._counts) >= _KEYS:
                self._counts = {key: kept for key, kept in self._counts.items() if now - kept[0] < WINDOW_S}
            began, count = self._counts.get(key_id, (now, 0))
            if now - began >= WINDOW_S:
                began, count = now, 0
            count += 1
            self._counts[key_id] = (began, count)
        reset = max(1, ceil(WINDOW_S - (now - began)))
        return Allowance(self._most, max(0, self._most - count), reset, count > self._most)
