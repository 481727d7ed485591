"""Whose bodies are parsed next: tenants take turns, one body at a time each."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field

from ingest.batch import Batch, Unread, read_batch


@dataclass
class _Job:
    unread: Unread
    batch: asyncio.Future[Batch] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Parsing:
    """A queue a tenant. Only for the event loop's thread.

    A tenant that sends all it can has one thread at most, however many bodies wait: the others find one free.
    """

    def __init__(self, threads: int, executor: Executor) -> None:
        """Parse in `executor`, which has so many threads."""
        self._threads = threads
        self._executor = executor
        self._queues: OrderedDict[str, deque[_Job]] = OrderedDict()
        self._parsing: set[str] = set()

    async def read(self, unread: Unread) -> Batch:
        """Return the batch that a body holds; errors are those of `ingest.batch.read_batch`."""
        job = _Job(unread)
        self._queues.setdefault(unread.arrived.sender.tenant_id, deque()).append(job)
        self._start()
        return await job.batch

    def waiting(self) -> int:
        """Return how many bodies wait for their turn."""
        return sum(map(len, self._queues.values()))

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        while len(self._parsing) < self._threads:
            tenant = next((tenant for tenant in self._queues if tenant not in self._parsing), None)
            if tenant is None:
                return
            job = self._queues[tenant].popleft()
            if self._queues[tenant]:
                self._queues.move_to_end(tenant)
            else:
                del self._queues[tenant]
            self._parsing.add(tenant)
            running = self._executor.submit(read_batch, job.unread)
            running.add_done_callback(
                lambda done, tenant=tenant, job=job: loop.call_soon_threadsafe(self._done, tenant, job, done)  # type: ignore[misc]
            )

    def _done(self, tenant: str, job: _Job, done: Future[Batch]) -> None:
        self._parsing.discard(tenant)
        error = done.exception()
        if not job.batch.done():
            if error is not None:
                job.batch.set_exception(error)
            else:
                job.batch.set_result(done.result())
        self._start()
