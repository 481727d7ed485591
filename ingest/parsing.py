"""Whose bodies are parsed next: tenants take turns, one parse at a time each, and small bodies go together."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Final

from ingest.batch import Arrived, Batch, read_batches
from ingest.settings import IngestSettings

_SMALL_BYTES: Final = 32 * 1024
_GROUP_BYTES: Final = 128 * 1024
"""As sent, compressed: what is opened is many times that."""


@dataclass
class _Job:
    arrived: Arrived
    claim: Callable[[int], None]
    batch: asyncio.Future[Batch] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Parsing:
    """A queue a tenant. Only for the event loop's thread.

    A tenant that sends all it can has one thread at most, however many bodies wait: the others find one free.
    """

    def __init__(self, settings: IngestSettings, executor: Executor) -> None:
        """Parse in `executor`, which has `settings.parse_threads` threads."""
        self._settings = settings
        self._executor = executor
        self._queues: OrderedDict[str, deque[_Job]] = OrderedDict()
        self._parsing: set[str] = set()

    async def read(self, arrived: Arrived, claim: Callable[[int], None]) -> Batch:
        """Return the batch that a body holds; arguments and errors are those of `ingest.batch.read_batch`."""
        job = _Job(arrived, claim)
        self._queues.setdefault(arrived.sender.tenant_id, deque()).append(job)
        self._start()
        return await job.batch

    def waiting(self) -> int:
        """Return how many bodies wait for their turn."""
        return sum(map(len, self._queues.values()))

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        while len(self._parsing) < self._settings.parse_threads:
            tenant = next((tenant for tenant in self._queues if tenant not in self._parsing), None)
            if tenant is None:
                return
            group = _next_group(self._queues[tenant])
            if self._queues[tenant]:
                self._queues.move_to_end(tenant)
            else:
                del self._queues[tenant]
            self._parsing.add(tenant)
            bodies = [(job.arrived, job.claim) for job in group]
            running = self._executor.submit(read_batches, bodies, self._settings)
            running.add_done_callback(
                lambda done, tenant=tenant, group=group: loop.call_soon_threadsafe(self._done, tenant, group, done)  # type: ignore[misc]
            )

    def _done(self, tenant: str, group: list[_Job], done: Future[list[Batch | Exception]]) -> None:
        self._parsing.discard(tenant)
        error = done.exception()
        results: list[Batch | BaseException] = [error] * len(group) if error is not None else [*done.result()]
        for job, result in zip(group, results, strict=True):
            if job.batch.done():
                continue
            if isinstance(result, BaseException):
                job.batch.set_exception(result)
            else:
                job.batch.set_result(result)
        self._start()


def _next_group(queue: deque[_Job]) -> list[_Job]:
    """Take the first body and, if it is small, the small ones right behind it."""
    group = [queue.popleft()]
    size = len(group[0].arrived.body)
    if size > _SMALL_BYTES:
        return group
    while queue and len(queue[0].arrived.body) <= _SMALL_BYTES and size < _GROUP_BYTES:
        group.append(queue.popleft())
        size += len(group[-1].arrived.body)
    return group
