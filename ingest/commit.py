"""Group commit: a tenant's waiting batches become one segment, and all are answered when it is durable."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

from ingest.admission import Reservation
from ingest.batch import Batch, Unread
from ingest.metrics import Metrics
from ingest.waiting import Waiting, read_and_encode, settle
from kaimon.base.logs import get_logger
from kaimon.base.problems import Problem
from lake.segments import segment_key
from lake.stores import AlreadyExistsError, Store

_RETRY_AFTER_S: Final = 5


class NodeConflictError(Exception):
    """Somebody else writes under this node's name: nothing may be written under it any more."""


@dataclass(frozen=True)
class CommitRule:
    """When a segment is written: `linger_s` after the first batch began to wait, or at once from `group_bytes` on.

    One that could not be written is tried again every `retry_s`. Nobody waits for longer than `patience_s`.
    """

    linger_s: float
    group_bytes: int
    retry_s: float
    patience_s: float


class Committer:
    """The segments of one ingest process: one line a tenant, one node name. Only for the event loop's thread.

    A line writes segment n+1 only after n is durable, so that a reader never sees a hole. A segment that cannot be
    written keeps its number and its bytes until it is: those who wait are told to come back, and it is tried again.
    """

    def __init__(
        self,
        store: Store,
        node: str,
        rule: CommitRule,
        executor: Executor,
        *,
        metrics: Metrics,
        on_durable: Callable[[str, str, int], None] = lambda _tenant, _node, _seq: None,
        on_fatal: Callable[[], None] = lambda: None,
    ) -> None:
        """Write to `store` under `node`.

        Args:
            store: the staging store.
            node: a name that no other process has or had.
            rule: when to write.
            executor: where encoding and writing happen.
            metrics: where to count.
            on_durable: told (tenant, node, seq) of every durable segment.
            on_fatal: told once when the node must not go on.
        """
        self.store = store
        self.node = node
        self.rule = rule
        self.executor = executor
        self.metrics = metrics
        self.on_durable = on_durable
        self.draining = False
        self.conflicted = False
        self._on_fatal = on_fatal
        self._lines: dict[str, _Line] = {}

    async def stage(
        self,
        tenant: str,
        batch: Batch | Unread,
        reservation: Reservation,
        on_durable: Callable[[Batch], None] = lambda _: None,
        size: int | None = None,
    ) -> Batch:
        """Return the batch when it is durable.

        Args:
            tenant: whose it is.
            batch: the batch, or its body, which is read when its segment is made.
            reservation: the memory it takes; released when its fate is known, which may be later than the answer.
            on_durable: called when it is durable, even when it was refused before.
            size: bytes that it counts for where it is decided how many make a segment; those reserved by default.

        Raises:
            Problem: 503 (storage_unavailable, shutting_down), it may or may not become durable: send it again; and
                what `read_batch` raises.
        """
        if self.draining or self.conflicted:
            raise Problem(503, "shutting_down", "Shutting down", headers={"Retry-After": "1"})
        line = self._lines.get(tenant)
        if line is None:
            line = self._lines[tenant] = _Line(self, tenant)
        loop = asyncio.get_running_loop()
        size = reservation.size if size is None else size
        waiting = Waiting(batch, size, reservation, on_durable, loop.create_future(), loop.time())
        line.add(waiting)
        reservation.hand_over()
        return await waiting.answer

    async def drain(self) -> None:
        """Write what waits without further ado, take nothing more, and return when all is settled."""
        self.draining = True
        for line in self._lines.values():
            line.hurry()
        await asyncio.gather(*(line.task for line in self._lines.values() if line.task is not None))

    def stuck_tenants(self) -> int:
        """Return how many lines hold a segment that cannot be written."""
        return sum(line.stuck for line in self._lines.values())

    def waiting_batches(self) -> int:
        """Return how many batches wait."""
        return sum(len(line.waiting) for line in self._lines.values())

    def conflict(self, key: str) -> None:
        """Take note that another writes under our name; nothing is written any more."""
        if not self.conflicted:
            self.conflicted = True
            get_logger(__name__).critical("node_conflict", node=self.node, key=key)
            self._on_fatal()


class _Line:
    """One tenant's waiting batches and the task that writes them, which lives while there is something to do."""

    def __init__(self, committer: Committer, tenant: str) -> None:
        self._committer = committer
        self._tenant = tenant
        self._seq = 0
        self._waiting_bytes = 0
        self._now = asyncio.Event()
        self._writing: list[Waiting] = []
        self._patience: asyncio.TimerHandle | None = None
        self.waiting: list[Waiting] = []
        self.task: asyncio.Task[None] | None = None
        self.stuck = False

    def add(self, waiting: Waiting) -> None:
        if self.stuck:
            raise _unavailable()
        self.waiting.append(waiting)
        self._waiting_bytes += waiting.size
        if self._waiting_bytes >= self._committer.rule.group_bytes:
            self._now.set()
        if self._patience is None:
            self._lose_patience()
        if self.task is None or self.task.done():
            self.task = asyncio.get_running_loop().create_task(self._run())

    def hurry(self) -> None:
        self._now.set()

    def _lose_patience(self) -> None:
        """Tell those who have waited for too long, and come back when the next one will have: one timer for all."""
        loop, patience_s = asyncio.get_running_loop(), self._committer.rule.patience_s
        waiting = [each for each in (*self._writing, *self.waiting) if not each.answer.done()]
        for each in waiting:
            if each.since + patience_s <= loop.time():
                each.refuse(_unavailable())
        oldest = next((each for each in waiting if not each.answer.done()), None)
        # Nearly always nobody waits by then.
        self._patience = None if oldest is None else loop.call_at(oldest.since + patience_s, self._lose_patience)

    async def _run(self) -> None:
        while self.waiting and not self._committer.conflicted:
            await self._linger()
            self._writing = self._take()
            await self._commit(self._writing)
            self._writing = []
        settle(self._take_all(), _unavailable())

    async def _linger(self) -> None:
        loop = asyncio.get_running_loop()
        left = self.waiting[0].since + self._committer.rule.linger_s - loop.time()
        if left > 0 and not self._committer.draining:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._now.wait(), left)
        self._now.clear()

    def _take(self) -> list[Waiting]:
        """Take from the front, in order, until there is enough for a segment."""
        group: list[Waiting] = []
        size = 0
        while self.waiting and (not group or size + self.waiting[0].size <= self._committer.rule.group_bytes):
            group.append(self.waiting.pop(0))
            size += group[-1].size
        self._waiting_bytes -= size
        if self._waiting_bytes >= self._committer.rule.group_bytes:
            self._now.set()
        return group

    def _take_all(self) -> list[Waiting]:
        group, self.waiting, self._waiting_bytes = self.waiting, [], 0
        return group

    async def _commit(self, group: list[Waiting]) -> None:
        loop, committer = asyncio.get_running_loop(), self._committer
        if committer.conflicted:
            settle(group, _unavailable())
            return
        seq = self._seq + 1
        try:
            made = await loop.run_in_executor(
                committer.executor, read_and_encode, committer.node, seq, self._tenant, group
            )
        except Exception as error:  # noqa: BLE001 - it is handed to whoever waits
            if len(group) > 1:
                # One batch that cannot be encoded must not take its neighbours with it.
                for waiting in group:
                    await self._commit([waiting])
                return
            settle(group, error)
            return
        for waiting, why in made.refused:
            waiting.settle(why)
        group = made.group
        if not group:
            return
        key = segment_key(self._tenant, committer.node, seq)
        began = loop.time()
        if not await self._put(key, made.data, group):
            return
        self._seq = seq
        committer.metrics.segments.inc()
        committer.metrics.segment_bytes.inc(len(made.data))
        committer.metrics.put_seconds.observe(loop.time() - began)
        committer.on_durable(self._tenant, committer.node, seq)
        for waiting, batch in zip(group, made.batches, strict=True):
            waiting.on_durable(batch)
            waiting.settle(batch)

    async def _put(self, key: str, data: bytes, group: list[Waiting]) -> bool:
        """Write the segment, for as long as it takes; return False if that ended without it."""
        loop, committer = asyncio.get_running_loop(), self._committer
        while True:
            last = committer.draining
            try:
                await loop.run_in_executor(committer.executor, put_mine, committer.store, key, data)
            except NodeConflictError:
                committer.conflict(key)
                settle(group, _unavailable())
                return False
            except Exception as error:  # noqa: BLE001 - whatever it is, this number is taken by these bytes
                committer.metrics.put_failures.inc()
                get_logger(__name__).error(
                    "segment_not_written", key=key, error=str(error), cause=repr(error.__cause__)
                )
                self.stuck = True
                settle([*group, *self._take_all()], _unavailable())
            else:
                if self.stuck:
                    get_logger(__name__).info("segment_written_at_last", key=key)
                self.stuck = False
                return True
            if last:
                return False
            self._now.clear()
            if committer.draining:
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._now.wait(), committer.rule.retry_s)


def put_mine(store: Store, key: str, data: bytes) -> None:
    """Write `data` under a key that is nobody else's; that it is there already, by an earlier attempt, is success.

    Raises:
        NodeConflictError: something else is there.
    """
    try:
        store.put_new(key, data)
    except AlreadyExistsError as error:
        if hashlib.sha256(store.get(key)).digest() != hashlib.sha256(data).digest():
            raise NodeConflictError(key) from error


def _unavailable() -> Problem:
    after = {"Retry-After": str(_RETRY_AFTER_S)}
    return Problem(503, "storage_unavailable", "Storage is not available", "the batch is not durable", headers=after)
