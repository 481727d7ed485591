"""Admission: memory is promised before a body is read, so that no crowd of senders can exhaust it."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from kaimon.base.problems import Problem


class Admission:
    """So many bytes and no more, shared by all requests of a process; a part of them for any one tenant. Thread-safe.

    A tenant's share bounds what is let in. What was let in may grow beyond it while it is parsed, one body at a time.
    """

    def __init__(self, limit: int, share: int | None = None) -> None:
        """Have `limit` bytes to give, to one tenant no more than `share` if there is one."""
        self.limit = limit
        self.share = share
        self._held: dict[str, int] = {}
        self._lock = threading.Lock()
        self._taken = 0

    @property
    def taken(self) -> int:
        """Bytes that are promised now."""
        return self._taken

    def reserve(self, size: int, tenant: str = "") -> Reservation:
        """Promise `size` bytes to a tenant.

        Raises:
            Problem: 429 tenant_busy, the tenant has its share; 503 overloaded, they are not there.
        """
        reservation = Reservation(self, tenant)
        with self._lock:
            over = self.share is not None and self._held.get(tenant, 0) + size > self.share
        if over:
            raise Problem(
                429,
                "tenant_busy",
                "Too much at once from this tenant",
                "its batches that are here already come first",
                headers={"Retry-After": "1"},
            )
        reservation.resize(size)
        return reservation

    def _move(self, tenant: str, change: int) -> None:
        with self._lock:
            if change > 0 and self._taken + change > self.limit:
                raise Problem(
                    503,
                    "overloaded",
                    "Too much at once",
                    "no memory for another batch at the moment",
                    headers={"Retry-After": "1"},
                )
            self._taken += change
            held = self._held.pop(tenant, 0) + change
            if held:
                self._held[tenant] = held


class Reservation:
    """A promise of memory; given back on `release`, or when an error ends its `with` block."""

    def __init__(self, admission: Admission, tenant: str) -> None:
        """Hold nothing yet."""
        self._admission = admission
        self._tenant = tenant
        self._handed_over = False
        self.size = 0

    def resize(self, size: int) -> None:
        """Hold `size` bytes from now on.

        Raises:
            Problem: 503 overloaded, there is no room to grow; what was held is still held.
        """
        self._admission._move(self._tenant, size - self.size)  # noqa: SLF001 - the two are one
        self.size = size

    def hand_over(self) -> None:
        """Leave the release to somebody who may hold the memory for longer than the `with` block."""
        self._handed_over = True

    def release(self) -> None:
        """Give everything back; again is no error."""
        self.resize(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not self._handed_over:
            self.release()
