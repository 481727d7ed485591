from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import zstandard

from ingest.admission import Admission
from ingest.batch import Arrived, Batch, Unread, read_batch
from ingest.commit import CommitRule, Committer
from ingest.metrics import Metrics
from ingest.settings import IngestSettings
from kaimon.base.problems import Problem
from lake.segments import encode_segment, read_segment, segment_key
from lake.stores import LocalStore, StoreError
from tenancy.credentials import HostIdentity

NODE = "node-1"
HUGE = 1 << 40


class TryingStore(LocalStore):
    """A local store that fails, waits or loses its answer when told to, and remembers what it was asked."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.puts: list[tuple[str, bytes]] = []
        self.failures = 0
        self.lost_answers = 0
        self.gate = threading.Event()
        self.gate.set()
        self.asked = threading.Event()

    def put_new(self, key: str, data: bytes) -> None:
        self.puts.append((key, data))
        self.asked.set()
        assert self.gate.wait(20)
        if self.failures:
            self.failures -= 1
            raise StoreError(f"put {key}: told to fail")
        super().put_new(key, data)
        if self.lost_answers:
            self.lost_answers -= 1
            raise StoreError(f"put {key}: no answer came")


class Bench:
    """A committer on a trying store, and batches to give it."""

    def __init__(self, committer: Committer, store: TryingStore, wire: ModuleType, fatal: list[str]) -> None:
        self.committer = committer
        self.store = store
        self.fatal = fatal
        self.admission = Admission(HUGE)
        self.durable: list[str] = []
        self._wire = wire
        self._host = wire.Host("acme", "agt_0123456789abcdef", "")

    def batch(self, rows: int = 2) -> Batch:
        body = self._host.batch(rows)
        sender = HostIdentity("acme", self._host.agent_id, "host-1", "active")
        arrived = Arrived(body, f"{self._host.batch_seq:064x}", 1_700_000_000_000_000, sender)
        return read_batch(Unread(arrived, IngestSettings()))

    def unread(self, *lines: dict[str, Any] | bytes, **header: Any) -> Unread:
        """Return a body as it came, of these lines, under the next number."""
        body = zstandard.compress(self._wire.lines(self._host.header(**header), *lines))
        sender = HostIdentity("acme", self._host.agent_id, "host-1", "active")
        return Unread(Arrived(body, f"{self._host.batch_seq:064x}", 1_700_000_000_000_000, sender), IngestSettings())

    def stage(self, batch: Batch | Unread, tenant: str = "acme", size: int | None = None) -> asyncio.Task[Batch]:
        async def staging() -> Batch:
            took = batch.size if isinstance(batch, Batch) else len(batch.arrived.body)
            with self.admission.reserve(size or took) as reservation:
                mine = replace(batch, claim=reservation.resize) if isinstance(batch, Unread) else batch
                return await self.committer.stage(tenant, mine, reservation, self._note)

        return asyncio.get_running_loop().create_task(staging())

    def _note(self, batch: Batch) -> None:
        self.durable.append(batch.record.digest)

    def staged(self, tenant: str = "acme") -> list[list[int]]:
        """Return the batch numbers in each segment, in order."""
        keys = [item.key for item in self.store.list(tenant)]
        assert keys == [segment_key(tenant, NODE, seq) for seq in range(1, len(keys) + 1)]
        return [[record.batch_seq for record in read_segment(self.store.get(key)).batches] for key in keys]


@pytest.fixture
def run(tmp_path: Path, wire: ModuleType) -> Callable[..., None]:
    """Run a test's coroutine with a bench whose rule it may choose."""

    @contextmanager
    def bench(**rule: Any) -> Iterator[Bench]:
        store, fatal = TryingStore(tmp_path / "staging"), []
        chosen = CommitRule(**({"linger_s": 0.05, "group_bytes": HUGE, "retry_s": 0.02, "patience_s": 20.0} | rule))
        with ThreadPoolExecutor(4) as executor:
            committer = Committer(
                store, NODE, chosen, executor, metrics=Metrics(), on_fatal=lambda: fatal.append("fatal")
            )
            yield Bench(committer, store, wire, fatal)

    def running(scene: Callable[[Bench], Awaitable[None]], **rule: Any) -> None:
        with bench(**rule) as made:
            asyncio.run(asyncio.wait_for(_with_end(scene, made), 30))

    return running


async def _with_end(scene: Callable[[Bench], Awaitable[None]], bench: Bench) -> None:
    await scene(bench)
    await bench.committer.drain()


async def until(ask: Callable[[], bool]) -> None:
    while not ask():  # noqa: ASYNC110 - the condition is a thread's doing
        await asyncio.sleep(0.005)


async def refusal(task: asyncio.Task[Batch]) -> Problem:
    with pytest.raises(Problem) as refused:
        await task
    return refused.value


def test_batches_that_come_together_become_one_segment(run: Any) -> None:
    async def scene(bench: Bench) -> None:
        await asyncio.gather(*(bench.stage(bench.batch()) for _ in range(20)))
        assert bench.staged() == [list(range(1, 21))]

    run(scene)


def test_nobody_is_answered_before_the_segment_is_durable(run: Any) -> None:
    async def scene(bench: Bench) -> None:
        bench.store.gate.clear()
        task = bench.stage(bench.batch())
        await until(bench.store.asked.is_set)
        done, _ = await asyncio.wait([task], timeout=0.2)
        assert not done
        assert bench.durable == []
        bench.store.gate.set()
        await task
        assert bench.staged() == [[1]]

    run(scene)


def test_enough_bytes_do_not_wait_for_the_timer(run: Any) -> None:
    async def scene(bench: Bench) -> None:
        await asyncio.gather(*(bench.stage(bench.batch(), size=40) for _ in range(5)))
        assert bench.staged() == [[1, 2], [3, 4], [5]]

    # Two of them reach the limit; the fifth is hurried by nobody but the timer, a long one.
    run(scene, group_bytes=80, linger_s=0.5)


def test_a_batch_larger_than_a_group_goes_alone_and_at_once(run: Any) -> None:
    async def scene(bench: Bench) -> None:
        await bench.stage(bench.batch(), size=1000)
        assert bench.staged() == [[1]]

    run(scene, group_bytes=80, linger_s=3600)


def test_the_next_segment_is_not_begun_before_this_one_is_durable(run: Any) -> None:
    async def scene(bench: Bench) -> None:
        bench.store.gate.clear()
        first = bench.stage(bench.batch())
        await until(bench.store.asked.is_set)
        second = bench.stage(bench.batch())
        done, _ = await asyncio.wait([first, second], timeout=0.3)
        assert not done
        assert len(bench.store.puts) == 1
        bench.store.gate.set()
        await asyncio.gather(first, second)
        assert bench.staged() == [[1], [2]]

    run(scene)


def test_tenants_do_not_wait_for_each_other_and_count_for_themselves(run: Any) -> None:
    async def scene(bench: Bench) -> None:
        bench.store.gate.clear()
        slow = bench.stage(bench.batch(), "slow")
        await until(bench.store.asked.is_set)
        bench.store.asked.clear()
        other = bench.stage(bench.batch(), "other")
        await until(bench.store.asked.is_set)
        bench.store.gate.set()
        await asyncio.gather(slow, other)
        assert (bench.staged("slow"), bench.staged("other")) == ([[1]], [[2]])

    run(scene)


def test_a_failed_put_is_answered_503_and_tried_again_under_the_same_number(run: Any) -> None:
    async def scene(bench: Bench) -> None:
        bench.store.failures = 3
        waiting = [bench.stage(bench.batch()) for _ in range(3)]
        for task in waiting:
            problem = await refusal(task)
            assert (problem.status, problem.code) == (503, "storage_unavailable")
            assert int(problem.headers["Retry-After"]) > 0
        await until(lambda: not bench.committer.stuck_tenants())
        # Refused, and durable all the same: a copy that comes now is known.
        assert len(bench.durable) == 3
        await bench.stage(bench.batch())
        assert bench.staged() == [[1, 2, 3], [4]]
        assert len(set(bench.store.puts[:4])) == 1
        assert bench.admission.taken == 0

    run(scene)


def test_while_a_segment_cannot_be_written_batches_are_refused_at_once(run: Any) -> None:
    async def scene(bench: Bench) -> None:
        bench.store.failures = 1
        await refusal(bench.stage(bench.batch()))
        assert bench.committer.stuck_tenants() == 1
        assert (await refusal(bench.stage(bench.batch()))).code == "storage_unavailable"
        assert bench.admission.taken == 0
        await bench.stage(bench.batch(), "other")

    run(scene, retry_s=3600)


def test_a_put_whose_answer_was_lost_is_recognized_as_ours(run: Any) -> None:
    async def scene(bench: Bench) -> None:
        bench.store.lost_answers = 1
        await refusal(bench.stage(bench.batch()))
        await until(lambda: not bench.committer.stuck_tenants())
        assert bench.fatal == []
        await bench.stage(bench.batch())
        assert bench.staged() == [[1], [2]]

    run(scene)


def test_another_writer_under_our_name_stops_the_node(run: Any) -> None:
    async def scene(bench: Bench) -> None:
        bench.store.put_new(segment_key("acme", NODE, 1), b"somebody else's")
        tasks = [bench.stage(bench.batch()), bench.stage(bench.batch())]
        assert [(await refusal(task)).status for task in tasks] == [503, 503]
        assert bench.fatal == ["fatal"]
        assert (await refusal(bench.stage(bench.batch(), "other"))).status == 503
        assert bench.store.get(segment_key("acme", NODE, 1)) == b"somebody else's"
        assert [item.key for item in bench.store.list("")] == [segment_key("acme", NODE, 1)]

    run(scene)


def test_a_batch_that_cannot_be_encoded_does_not_take_its_neighbours_with_it(run: Any) -> None:
    async def scene(bench: Bench) -> None:
        good, bad, other = bench.batch(), bench.batch(), bench.batch()
        broken = Batch(bad.record, bad.rows.slice(1), [], bad.size)
        tasks = [bench.stage(batch) for batch in (good, broken, other)]
        await asyncio.gather(tasks[0], tasks[2])
        with pytest.raises(ValueError, match="rows"):
            await tasks[1]
        assert bench.staged() == [[1], [3]]
        assert bench.admission.taken == 0

    run(scene)


def test_small_batches_are_read_together_and_come_out_as_each_alone(run: Any, wire: ModuleType) -> None:
    async def scene(bench: Bench) -> None:
        paths = [["/a", "/b"], [], ["/b", "/c", "/d"], ["/a"]]
        bodies = [bench.unread(*(wire.event(n, path=path) for n, path in enumerate(some))) for some in paths]
        alone = [read_batch(body) for body in bodies]
        together = await asyncio.gather(*(bench.stage(body) for body in bodies))
        assert together[0].table is together[2].table
        for mine, other in zip(together, alone, strict=True):
            assert (mine.record, mine.rejected, mine.size) == (other.record, other.rejected, other.size)
            assert mine.rows.equals(other.rows)
        segment = read_segment(bench.store.get(segment_key("acme", NODE, 1)))
        assert segment.batches == [batch.record for batch in alone]
        parts = [(batch.record, batch.rows, batch.rejected) for batch in alone]
        assert segment.events.equals(read_segment(encode_segment(NODE, 1, "acme", parts)).events)
        assert segment.events["path"].to_list() == [path for some in paths for path in some]
        assert bench.admission.taken == 0

    run(scene)


def test_a_small_batch_that_is_none_is_refused_and_its_neighbours_are_durable(run: Any, wire: ModuleType) -> None:
    async def scene(bench: Bench) -> None:
        good, bad_line = bench.unread(wire.event(1)), bench.unread(wire.event(2), b"{}")
        forged = bench.unread(wire.event(3), agent_id="agt_ffffffffffffffff")
        torn = replace(good, arrived=replace(good.arrived, body=good.arrived.body[:-4]))
        tasks = [bench.stage(one) for one in (good, forged, bad_line, torn)]
        assert [(await refusal(tasks[at])).code for at in (1, 3)] == ["agent_mismatch", "malformed_body"]
        assert [(len(batch.rows), len(batch.rejected)) for batch in (await tasks[0], await tasks[2])] == [
            (1, 0),
            (1, 1),
        ]
        assert bench.staged() == [[1, 2]]
        assert bench.admission.taken == 0

    run(scene)


def test_a_group_of_which_nothing_can_be_read_makes_no_segment(run: Any, wire: ModuleType) -> None:
    async def scene(bench: Bench) -> None:
        forged = bench.unread(wire.event(1), agent_id="agt_ffffffffffffffff")
        assert (await refusal(bench.stage(forged))).code == "agent_mismatch"
        await bench.stage(bench.unread(wire.event(1)))
        assert bench.staged() == [[2]]

    run(scene)


def test_memory_that_a_small_batch_does_not_get_is_its_own_refusal(run: Any, wire: ModuleType) -> None:
    async def scene(bench: Bench) -> None:
        bench.admission.limit = 20_000
        large, small = bench.unread(*(wire.event(n) for n in range(200))), bench.unread(wire.event(1))
        tasks = [bench.stage(large), bench.stage(small)]
        assert (await refusal(tasks[0])).code == "overloaded"
        await tasks[1]
        assert bench.staged() == [[2]]
        assert bench.admission.taken == 0

    run(scene)


def test_batches_that_were_read_together_can_be_written_apart(run: Any, wire: ModuleType) -> None:
    async def scene(bench: Bench) -> None:
        bad = bench.batch()
        broken = Batch(bad.record, bad.rows.slice(1), [], bad.size)
        bodies = [bench.unread(wire.event(1, path="/a")), bench.unread(wire.event(2, path="/b"))]
        tasks = [bench.stage(one) for one in (bodies[0], broken, bodies[1])]
        await asyncio.gather(tasks[0], tasks[2])
        with pytest.raises(ValueError, match="rows"):
            await tasks[1]
        assert bench.staged() == [[2], [3]]
        written = [read_segment(bench.store.get(segment_key("acme", NODE, seq))).events for seq in (1, 2)]
        assert [rows["path"].to_list() for rows in written] == [["/a"], ["/b"]]

    run(scene)


def test_a_drain_writes_what_waits_without_waiting_for_more(run: Any) -> None:
    async def scene(bench: Bench) -> None:
        tasks = [bench.stage(bench.batch()) for _ in range(3)]
        await until(lambda: bench.committer.waiting_batches() == 3)
        await bench.committer.drain()
        await asyncio.gather(*tasks)
        assert bench.staged() == [[1, 2, 3]]
        assert (await refusal(bench.stage(bench.batch()))).code == "shutting_down"

    run(scene, linger_s=3600)


def test_patience_ends_but_the_memory_stays_promised_until_the_put_does(run: Any) -> None:
    async def scene(bench: Bench) -> None:
        bench.store.gate.clear()
        task = bench.stage(bench.batch())
        assert (await refusal(task)).code == "storage_unavailable"
        assert bench.admission.taken > 0
        bench.store.gate.set()
        await until(lambda: bench.admission.taken == 0)
        assert len(bench.durable) == 1

    run(scene, patience_s=0.2)
