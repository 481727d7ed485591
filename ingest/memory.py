"""What this process has lately staged: a batch that comes again is answered without being staged again.

Best effort: it forgets, and other processes have their own. Landing is exact.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

_REMEMBERED: Final = 20_000

BatchKey = tuple[str, str, str]
"""Tenant, agent and digest of the body: the same bytes from the same agent are the same batch."""


@dataclass(frozen=True)
class Answer:
    """What became of a batch: `errors` names the first rejected lines."""

    accepted: int
    rejected: int
    errors: tuple[dict[str, Any], ...] = ()


class Recent:
    """The answers to batches that are durable, and futures of those on their way. Only for the event loop's thread."""

    def __init__(self, remembered: int = _REMEMBERED) -> None:
        """Remember up to `remembered` answers, the newest."""
        self._limit = remembered
        self._durable: OrderedDict[BatchKey, Answer] = OrderedDict()
        self._digests: OrderedDict[tuple[str, str, str, int], str] = OrderedDict()
        self._pending: dict[BatchKey, asyncio.Future[Answer]] = {}

    def find(self, key: BatchKey) -> asyncio.Future[Answer] | Answer | None:
        """Return the answer to this batch, or the future of it, or None if it is new."""
        return self._durable.get(key) or self._pending.get(key)

    def another(self, tenant: str, identity: tuple[str, str, int], digest: str) -> bool:
        """Say whether a batch of this identity had another digest; remember this one. Landing decides what counts."""
        before = self._digests.setdefault((tenant, *identity), digest)
        if len(self._digests) > self._limit:
            self._digests.popitem(last=False)
        return before != digest

    def begin(self, key: BatchKey) -> asyncio.Future[Answer]:
        """Return a future of the answer to a new batch; its settling answers every copy that came meanwhile."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._pending[key] = future
        future.add_done_callback(lambda _: self._pending.pop(key, None))
        return future

    def remember(self, key: BatchKey, answer: Answer) -> None:
        """Remember that this batch is durable."""
        self._durable[key] = answer
        self._durable.move_to_end(key)
        while len(self._durable) > self._limit:
            self._durable.popitem(last=False)
