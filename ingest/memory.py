"""What this process has lately staged: a batch that comes again is answered without being staged again.

Best effort: it forgets, and other processes have their own. Landing is exact.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec

_REMEMBERED: Final = 20_000

BatchKey = tuple[str, str, str]
"""Tenant, agent and digest of the body: the same bytes from the same agent are the same batch."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What became of a batch: `errors` names the first rejected lines."""

    accepted: int
    rejected: int
    errors: tuple[dict[str, Any], ...] = ()


class Pending:
    """A batch on its way, and the copies of it that wait for the same answer. Only for the event loop's thread."""

    def __init__(self, forget: Callable[[], object]) -> None:
        """`forget` is called once its fate is known."""
        self._forget = forget
        self._copies: list[asyncio.Future[Answer]] = []

    async def wait(self) -> Answer:
        """Return the answer, once there is one.

        Raises:
            Problem: what the batch itself was told.
        """
        copy: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._copies.append(copy)
        return await copy

    def settle(self, answer: Answer) -> None:
        """Answer the copies."""
        self._forget()
        for copy in self._copies:
            if not copy.done():
                copy.set_result(answer)

    def fail(self, error: Exception) -> None:
        """Refuse the copies."""
        self._forget()
        for copy in self._copies:
            if not copy.done():
                copy.set_exception(error)


class Recent:
    """The answers to batches that are durable, and those on their way. Only for the event loop's thread."""

    def __init__(self, remembered: int = _REMEMBERED) -> None:
        """Remember up to `remembered` answers, the newest."""
        self._limit = remembered
        self._durable: OrderedDict[BatchKey, Answer] = OrderedDict()
        self._digests: OrderedDict[tuple[str, str, str, int], str] = OrderedDict()
        self._pending: dict[BatchKey, Pending] = {}

    def find(self, key: BatchKey) -> Pending | Answer | None:
        """Return the answer to this batch, or that it is on its way, or None if it is new."""
        return self._durable.get(key) or self._pending.get(key)

    def another(self, tenant: str, identity: tuple[str, str, int], digest: str) -> bool:
        """Say whether a batch of this identity had another digest; remember this one. Landing decides what counts."""
        before = self._digests.setdefault((tenant, *identity), digest)
        if len(self._digests) > self._limit:
            self._digests.popitem(last=False)
        return before != digest

    def begin(self, key: BatchKey) -> Pending:
        """Take note of a new batch that is on its way; its settling answers every copy that came meanwhile."""
        pending = self._pending[key] = Pending(partial(self._pending.pop, key, None))
        return pending

    def remember(self, key: BatchKey, answer: Answer) -> None:
        """Remember that this batch is durable."""
        self._durable[key] = answer
        self._durable.move_to_end(key)
        while len(self._durable) > self._limit:
            self._durable.popitem(last=False)
