"""Batches that wait for their segment, and the segment that a group of them becomes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ingest.admission import Reservation
from ingest.batch import Batch, Unread, read_batches
from lake.segments import encode_segment


@dataclass(slots=True, eq=False)
class Waiting:
    """A batch that waits to become durable, and whoever waits for that.

    A small one is read only when its segment is made, along with its neighbours: until then it is `Unread`.
    """

    batch: Batch | Unread
    size: int
    reservation: Reservation
    on_durable: Callable[[Batch], None]
    answer: asyncio.Future[Batch]
    since: float

    def become(self, batch: Batch) -> None:
        """Take what was read; the memory is what it needs from here on."""
        self.batch = batch
        self.reservation.resize(batch.size)

    def refuse(self, error: Exception) -> None:
        """Tell whoever waits, if anybody does still; the memory is held until the batch's fate is known."""
        if not self.answer.done():
            self.answer.set_exception(error)
            # Read it: whoever went away does not, and asyncio would complain.
            self.answer.exception()

    def settle(self, fate: Batch | Exception) -> None:
        """Give the memory back and answer: it is durable, or why it is not."""
        self.reservation.release()
        if isinstance(fate, Exception):
            self.refuse(fate)
        elif not self.answer.done():
            self.answer.set_result(fate)


def settle(group: Sequence[Waiting], error: Exception) -> None:
    """Tell all of a group why they are not durable."""
    for waiting in group:
        waiting.settle(error)


@dataclass(frozen=True)
class Made:
    """A segment's bytes, the batches in it, and those that could not be read, with why."""

    data: bytes
    group: list[Waiting]
    batches: list[Batch]
    refused: list[tuple[Waiting, Exception]]


def read_and_encode(node: str, seq: int, tenant: str, group: Sequence[Waiting]) -> Made:
    """Read what was not read yet and make the segment of all that can be."""
    made = Made(b"", [], [], [])
    unread = [waiting.batch for waiting in group if isinstance(waiting.batch, Unread)]
    read = iter(read_batches(unread))
    for waiting in group:
        batch = next(read) if isinstance(waiting.batch, Unread) else waiting.batch
        if isinstance(batch, Exception):
            made.refused.append((waiting, batch))
            continue
        waiting.become(batch)
        made.group.append(waiting)
        made.batches.append(batch)
    if not made.batches:
        return made
    first, rows = made.batches[0].table, sum(batch.record.rows for batch in made.batches)
    if first.num_rows == rows and all(batch.table is first for batch in made.batches):
        parts = [(batch.record, first, batch.rejected) for batch in made.batches]
        return replace(made, data=encode_segment(node, seq, tenant, parts, first))
    parts = [(batch.record, batch.rows, batch.rejected) for batch in made.batches]
    return replace(made, data=encode_segment(node, seq, tenant, parts))
