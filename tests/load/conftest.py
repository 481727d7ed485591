"""The real agent under loads of its own size: a server that keeps its books, and a generator in C."""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import zstandard

HERE = Path(__file__).parent
LOOP = HERE.parents[1] / "benchmarks" / "agent_load" / "loop.c"


def module(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    made = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


native = module("kaimon_test_agent", HERE.parent / "agent" / "conftest.py")
books = module("kaimon_test_books", HERE / "books.py")


class Server(native.Sink):  # type: ignore[misc, name-defined]
    """A sink that keeps the books of each load instead of every row; a broken book is told by `check`."""

    def __init__(self, folder: Path) -> None:
        self.loads: list[Any] = []
        self.broken: list[str] = []
        self.booking = threading.Lock()
        super().__init__(folder)

    def receive(self, path: str, headers: Any, body: bytes) -> Any:
        if path == "/v1/enroll":
            return super().receive(path, headers, body)
        text = zstandard.ZstdDecompressor().decompress(body, max_output_size=64 << 20, allow_extra_data=False)
        head, _, lines = text.partition(b"\n")
        header, digest = json.loads(head), hashlib.sha256(body).hexdigest()
        with self.booking:
            if not self.loads or self.loads[-1].load_id != header["load_id"]:
                self.loads.append(books.Books(header))
            load = self.loads[-1]
            duplicate = digest == load.digest
            if not duplicate:
                try:
                    load.add(header, lines, digest)
                except AssertionError as broken:
                    self.broken.append(f"{broken}")
        with self.lock:
            self.lock.notify_all()
        accepted = 0 if duplicate else lines.count(b"\n")
        return native.Answer(200, body={"accepted": accepted, "rejected": 0, "duplicate": duplicate, "errors": []})

    @property
    def load(self) -> Any:
        return self.loads[-1]

    def check(self) -> None:
        assert self.broken == []


class Watch:
    """Samples the memory of a process until told to stop."""

    def __init__(self, agent: Any, every_s: float = 0.2) -> None:
        self.agent, self.every_s = agent, every_s
        self.rss: list[tuple[float, int]] = []
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        began = time.monotonic()
        while not self.done.wait(self.every_s):
            try:
                self.rss.append((time.monotonic() - began, self.agent.memory("VmRSS")))
            except (OSError, AssertionError):
                return

    def stop(self) -> list[tuple[float, int]]:
        self.done.set()
        self.thread.join()
        return self.rss


class Loop:
    """The generator: FILES files made (a create and a write each), then TURNS times open, write, close over them.

    Without FILES each turn makes, writes, closes and removes a file of its own.
    """

    def __init__(self, program: Path, folder: Path, files: int, turns: int) -> None:
        folder.mkdir()
        self.folder = str(folder)
        self.child = subprocess.Popen([program, folder, str(files), str(turns)], stdin=subprocess.PIPE, stdout=-1)
        if files:
            turns += turns // 10 if files < turns // 10 else 0  # it warms up
            self.events = {"create": files, "open": turns, "write": files + turns, "delete": 0}
        else:
            self.events = {"create": turns, "open": 0, "write": turns, "delete": turns}

    @property
    def pid(self) -> int:
        return self.child.pid

    def begin(self) -> None:
        assert self.child.stdin is not None
        self.child.stdin.write(b"\n")
        self.child.stdin.flush()

    def finish(self) -> None:
        assert self.child.communicate(b"\n", timeout=250)[0]
        assert self.child.returncode == 0

    def kill(self) -> None:
        self.child.kill()
        self.child.communicate()

    def told(self, load: Any) -> dict[str, int]:
        """What a load of the agent has delivered of it."""
        return {operation: load.told(self.pid, self.folder, operation) for operation in self.events}


@pytest.fixture(autouse=True)
def _skip_where_the_agent_cannot_run() -> None:
    if native.why_not():
        pytest.skip(native.why_not())


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc: the generator is in C")
    made = tmp_path_factory.mktemp("loop") / "loop"
    subprocess.run(["gcc", "-O2", "-static", "-o", made, LOOP], check=True)
    return made


@pytest.fixture
def loop(program: Path, tmp_path: Path) -> Iterator[Callable[[int, int], Loop]]:
    """Start the generator in a folder of its own; in memory where there is any, since that is fastest."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix=books.LOADED[1:], dir=memory if memory.is_mount() else tmp_path) as made:
        running: list[Loop] = []
        folders = (Path(made).resolve() / str(number) for number in itertools.count())

        def start(files: int, turns: int) -> Loop:
            running.append(Loop(program, next(folders), files, turns))
            return running[-1]

        yield start
        for one in running:
            if one.child.returncode is None:
                one.kill()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "server"
    folder.mkdir()
    made = Server(folder)
    yield made
    made.stop()


@pytest.fixture
def start(server: Server, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    running: list[Any] = []

    def run(*arguments: str, enroll: bool = True) -> Any:
        running.append(native.Agent(server, tmp_path, *arguments, enroll=enroll))
        running[-1].wait_ready()
        return running[-1]

    yield run
    for agent in running:
        agent.close()


@pytest.fixture(scope="session")
def full(pytestconfig: pytest.Config) -> bool:
    """Whether loads are to be as long as the promise says, instead of as short as shows it."""
    return bool(pytestconfig.getoption("--full"))


@pytest.fixture
def watch() -> type[Watch]:
    return Watch
