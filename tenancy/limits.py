"""How fast one source may try tokens that nobody issued: a bucket a source."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from tenancy.refusals import too_many_unknown

_SOURCES: Final = 10_000


class SourceLimiter:
    """A token bucket for each source, bounded in number. Thread-safe.

    Only tokens that turn out unknown are charged, after the look-up: hosts behind one address never use up each
    other's allowance by being legitimate. What was in flight at once may overdraw it by as much.
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

    def check(self, source: str) -> None:
        """Say whether a look-up may be made now.

        Raises:
            Problem: 429 with Retry-After, this source has used up its allowance.
        """
        with self._lock:
            level = self._level(_network(source))
        if level < 1.0:
            raise too_many_unknown((1.0 - level) / self._per_second)

    def charge(self, source: str) -> None:
        """Count one unknown token."""
        key = _network(source)
        with self._lock:
            self._buckets[key] = (self._level(key) - 1.0, self._monotonic())
            self._buckets.move_to_end(key)
            if len(self._buckets) > _SOURCES:
                self._buckets.popitem(last=False)

    def _level(self, key: str) -> float:
        now = self._monotonic()
        level, since = self._buckets.get(key, (self._burst, now))
        return min(self._burst, level + (now - since) * self._per_second)


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
