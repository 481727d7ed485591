"""Ingest dies or doubles under load, agents send again what was not answered: each event lands exactly once."""

from __future__ import annotations

import os
import random
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from senders import HOSTS, ROWS, Sender, all_of, assert_landed_exactly_once, enrolled_senders, keep_sending

from kaimon.base.tls import ensure_development_tls
from tenancy.database import Database, open_database
from tenancy.settings import TenancySettings

TENANT = "acme"
POINTS = ["before it begins", "before the link", "before the folder's fsync", "when it is durable"]
KILLS, ALL_KILLS = 12, 50
WHOLE_KILLS, ALL_WHOLE_KILLS = 2, 50
COPIES = 100
SEED = 20_261_125


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    (tmp_path / "home").mkdir()
    opened = open_database(TenancySettings(home=tmp_path / "home"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory, wire: ModuleType) -> Iterator[list[Any]]:
    """Two servers over one home: two nodes that know nothing of each other."""
    folder = tmp_path_factory.mktemp("nodes")
    (folder / "home").mkdir()
    made: list[Any] = []
    try:
        logs = (folder / "log-1", folder / "log-2")
        made.extend(wire.Server(folder / "home", log, commit_linger_ms=20) for log in logs)
        yield made
    finally:
        for node in made:
            node.kill()


@pytest.fixture(scope="module")
def nodes_database(nodes: list[Any]) -> Iterator[Database]:
    opened = open_database(TenancySettings(home=nodes[0].home))
    yield opened
    opened.close()


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_ingest_killed_at_any_point_of_a_put_loses_and_doubles_nothing(
    tmp_path: Path, database: Database, wire: ModuleType, point: str
) -> None:
    home, log = tmp_path / "home", tmp_path / "log"
    command = [sys.executable, str(Path(__file__).with_name("killed_ingest.py")), point, "3"]
    dying = wire.Server(home, log, command, commit_linger_ms=20)
    senders = enrolled_senders(database, wire, TENANT)
    try:
        all_of(senders, lambda sender: sender.send_until_it_breaks(dying, 50))
        assert dying.process.wait(timeout=60) != 0
    finally:
        dying.kill()
    assert [bool(sender.unanswered) for sender in senders] == [True] * HOSTS
    assert sum(sender.answered for sender in senders) > 0
    answered = sum(sender.answered for sender in senders)
    staged = len(wire.staged_batches(home, TENANT))
    in_flight = sum(len(sender.unanswered) for sender in senders)
    # What makes the point worth its test: the kill left batches durable and unanswered, or it did not.
    assert (staged > answered) == (point in POINTS[2:])
    assert staged <= answered + in_flight
    successor = wire.Server(home, log)
    try:
        all_of(senders, lambda sender: sender.send(successor))
        all_of(senders, lambda sender: sender.send_until_it_breaks(successor, 3))
        assert not any(sender.unanswered for sender in senders)
    finally:
        successor.stop()
    assert_landed_exactly_once(database, home, senders)


def test_batches_that_two_nodes_accepted_land_once(
    nodes: list[Any], nodes_database: Database, wire: ModuleType
) -> None:
    home = nodes[0].home
    senders = enrolled_senders(nodes_database, wire, "doubled")

    def send_to_both(sender: Sender) -> None:
        for _ in range(5):
            body = sender.host.batch(ROWS)
            with ThreadPoolExecutor(2) as pool:
                answers = list(pool.map(lambda node: node.send(sender.host, body), nodes))  # noqa: B023
            assert [answer.status_code for answer in answers] == [200, 200]
            assert [answer.json()["duplicate"] for answer in answers] == [False, False]

    all_of(senders, send_to_both)
    staged = Counter(wire.staged_batches(home, "doubled"))
    assert set(staged.values()) == {2}
    assert len({segment.node for segment in wire.segments(home, "doubled")}) == 2
    ledger = assert_landed_exactly_once(nodes_database, home, senders)
    assert Counter(ledger["outcome"]) == {"landed": 5 * HOSTS, "duplicate": 5 * HOSTS}


def test_a_hundred_copies_at_once_on_two_nodes_land_once(
    nodes: list[Any], nodes_database: Database, wire: ModuleType
) -> None:
    home = nodes[0].home
    sender = enrolled_senders(nodes_database, wire, "copied")[0]
    body = sender.host.batch(ROWS)
    together = threading.Barrier(COPIES)

    def send(number: int) -> httpx.Response:
        together.wait()
        answer: httpx.Response = nodes[number % 2].send(sender.host, body)
        return answer

    with ThreadPoolExecutor(COPIES) as pool:
        answers = list(pool.map(send, range(COPIES)))
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["accepted"] for answer in answers} == {ROWS}
    # Each node stages the first that it sees; the others wait for its answer.
    assert Counter(answer.json()["duplicate"] for answer in answers) == {False: 2, True: COPIES - 2}
    assert len(wire.staged_batches(home, "copied")) == 2
    ledger = assert_landed_exactly_once(nodes_database, home, [sender])
    assert Counter(ledger["outcome"]) == {"landed": 1, "duplicate": 1}


class Forked:
    """A server that has a successor at once; see forked_ingest.py."""

    def __init__(self, home: Path, log: Path, wire: ModuleType) -> None:
        self.home, self.port = home, wire.free_port()
        self._wire = wire
        trust = ssl.create_default_context(cafile=str(ensure_development_tls(home).ca))
        self._client = httpx.Client(
            base_url=f"https://127.0.0.1:{self.port}", verify=trust, timeout=30, trust_env=False
        )
        with log.open("ab") as output:
            self._parent = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("forked_ingest.py")), str(self.port)],
                env={**os.environ, "KAIMON_COMMIT_LINGER_MS": "20", "KAIMON_HOME": str(home)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                bufsize=0,
            )
        self._child = 0
        self.begin()

    def begin(self) -> None:
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(b"\n")
        self._child = int(self._parent.stdout.readline())

    def send(self, host: Any, body: bytes) -> httpx.Response:
        return self._client.post("/v1/batches", content=body, headers=host.headers(body))

    def kill(self, _chance: random.Random) -> None:
        os.kill(self._child, signal.SIGKILL)
        self.begin()

    def supervise(self) -> None:
        assert self._parent.poll() is None

    def end(self) -> None:
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._client.close()
        self._parent.stdin.close()
        self._parent.wait(60)
        self._parent.stdout.close()


class Undying:
    """The server as it is used, with two workers; it is started again when it was killed."""

    def __init__(self, home: Path, log: Path, wire: ModuleType) -> None:
        self.home = home
        self._log = log
        self._wire = wire
        self._begin()

    def _begin(self) -> None:
        self.server = self._wire.Server(self.home, self._log, workers=2, commit_linger_ms=20)

    @property
    def port(self) -> int:
        return int(self.server.port)

    def send(self, host: Any, body: bytes) -> httpx.Response:
        answer: httpx.Response = self.server.send(host, body)
        return answer

    def workers(self) -> list[int]:
        """Return the process ids of the workers that serve by now."""
        parent = self.server.process.pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def kill(self, chance: random.Random) -> None:
        """Kill a worker, for which the server finds another, or all there is."""
        workers = self.workers()
        if workers and chance.random() < 0.5:
            os.kill(chance.choice(workers), signal.SIGKILL)
        else:
            self.server.kill()

    def supervise(self) -> None:
        """Begin anew if it ended, which it also does when its workers die one after the other."""
        if self.server.process.poll() is not None:
            self.server.kill()
            self._begin()

    def end(self) -> None:
        self.server.kill()


def wait_until_all_send(server: Forked | Undying, senders: list[Sender], wire: ModuleType) -> None:
    before = [sender.answered for sender in senders]

    def all_sent() -> bool:
        server.supervise()
        return all(sender.answered > was for sender, was in zip(senders, before, strict=True))

    wire.wait_until(all_sent, "everybody to have a batch answered", 150)


def assert_kills_lose_and_double_nothing(
    server: Forked | Undying, kills: int, database: Database, wire: ModuleType
) -> None:
    chance = random.Random(SEED)
    done = threading.Event()
    senders = enrolled_senders(database, wire, TENANT)
    began = time.monotonic()
    try:
        with ThreadPoolExecutor(1) as pool:
            load = pool.submit(keep_sending, server, senders, done.is_set, 0.1, kills * 60)
            for _ in range(kills):
                wait_until_all_send(server, senders, wire)
                time.sleep(chance.uniform(0, 0.1))
                server.kill(chance)
            wait_until_all_send(server, senders, wire)
            done.set()
            load.result()
    finally:
        server.end()
    assert all(sender.answered == sender.host.batch_seq > kills for sender in senders)
    staged = wire.staged_batches(server.home, TENANT)
    ledger = assert_landed_exactly_once(database, server.home, senders)
    assert ledger.height == len(staged)
    again = len(staged) - len(set(staged))
    cuts = sum(sender.cuts for sender in senders)
    print(f"{kills} kills in {time.monotonic() - began:.0f} s: {len(set(staged))} batches answered and landed once, ")
    print(f"{again} of them durable before they were answered and so staged again; {cuts} bodies cut off")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_kills_at_random_points_under_load_lose_and_double_nothing(
    tmp_path: Path, database: Database, wire: ModuleType, pytestconfig: pytest.Config
) -> None:
    kills = ALL_KILLS if pytestconfig.getoption("full") else KILLS
    server = Forked(tmp_path / "home", tmp_path / "log", wire)
    assert_kills_lose_and_double_nothing(server, kills, database, wire)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_kills_of_workers_and_of_whole_servers_lose_and_double_nothing(
    tmp_path: Path, database: Database, wire: ModuleType, pytestconfig: pytest.Config
) -> None:
    kills = ALL_WHOLE_KILLS if pytestconfig.getoption("full") else WHOLE_KILLS
    server = Undying(tmp_path / "home", tmp_path / "log", wire)
    assert_kills_lose_and_double_nothing(server, kills, database, wire)
