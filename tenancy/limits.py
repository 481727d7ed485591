"""How fast one source may try tokens that nobody issued: a bucket a source."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

_SOURCES: Final = 10_000


class SourceLimiter:
    """A token bucket for each source, bounded in number. Thread-safe.

    A look-up first takes one and gives it back when the token turns out to be known, so that hosts behind one
    address do not use up each other's allowance by being legitimate.
    """

    def __init__(
        self, per_second: float = 1.0, burst: int = 20, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Allow `burst` at once and `per_second` from then on."""
        self._per_second = per_second
        self._burst = float(burst)
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, source: str) -> float:
        """Take one; return 0.0, or the seconds until there will be one."""
        with self._lock:
            level = self._level(source)
            if level < 1.0:
                self._put(source, level)
                return (1.0 - level) / self._per_second
            self._put(source, level - 1.0)
            return 0.0

    def give_back(self, source: str) -> None:
        """Return what `take` took."""
        with self._lock:
            self._put(source, min(self._burst, self._level(source) + 1.0))

    def _level(self, source: str) -> float:
        level, since = self._buckets.get(_network(source), (self._burst, self._monotonic()))
        return min(self._burst, level + (self._monotonic() - since) * self._per_second)

    def _put(self, source: str, level: float) -> None:
        key = _network(source)
        self._buckets[key] = (level, self._monotonic())
        self._buckets.move_to_end(key)
        while len(self._buckets) > _SOURCES:
            self._buckets.popitem(last=False)


def _network(source: str) -> str:
    """Return who is meant by an address: for IPv6 its /64, since one host has as many addresses as it likes."""
    try:
        address = ipaddress.ip_address(source)
    except ValueError:
        return source
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address), 64), strict=False))
    return str(address)
