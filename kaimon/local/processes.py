"""Child processes: started with a log file each, waited for by condition, stopped by pid in reverse order."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")


class ProcessError(RuntimeError):
    """A child process ended, or did not get ready, when it should not have."""


@dataclass(frozen=True)
class Child:
    """A running child process and where its output goes."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raise if it has ended."""
        if (code := self.process.poll()) is not None:
            raise ProcessError(f"{self.name} ended with status {code}; the end of {self.log}:\n{self.tail()}")

    def tail(self, lines: int = 20) -> str:
        """Return the last lines that it wrote."""
        text = self.log.read_text(errors="backslashreplace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


class Children:
    """A set of child processes that never outlives its `with` block."""

    def __init__(self, log_folder: Path) -> None:
        """Write each child's output to `<log_folder>/<name>.log`."""
        self._log_folder = log_folder
        self._children: list[Child] = []
        log_folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, name: str, command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> Child:
        """Start `command` in a process group of its own, so that a Ctrl-C reaches us first and it in order."""
        log = self._log_folder / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(  # noqa: S603 - the commands are our own
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        child = Child(name, process, log)
        self._children.append(child)
        return child

    def started(self, name: str) -> Child:
        """Return the newest child of a name.

        Raises:
            KeyError: none was started.
        """
        return {child.name: child for child in self._children}[name]

    def check(self) -> None:
        """Raise if any child has ended."""
        for child in self._children:
            child.check()

    def stop_one(self, child: Child, grace_s: float = 30.0) -> int:
        """Ask a child to end, then what it started and left; end by force what does not; return its exit status."""
        self._children.remove(child)
        deadline = time.monotonic() + grace_s
        if child.process.poll() is None:
            child.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                child.process.wait(timeout=grace_s)
        signal_group(child.process.pid, signal.SIGTERM)
        while signal_group(child.process.pid, 0) and child.process.poll() is not None and time.monotonic() < deadline:
            time.sleep(0.05)
        signal_group(child.process.pid, signal.SIGKILL)
        return child.process.wait()

    def stop(self) -> None:
        """Stop every child, the newest first."""
        for child in reversed(list(self._children)):
            self.stop_one(child)


def signal_group(group: int, number: int) -> bool:
    """Send a signal to a process group (0: only ask); say whether anybody is in it."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def wait_for(what: str, ask: Callable[[], T | None], within_s: float, children: Children | None = None) -> T:
    """Ask until the answer is truthy and return it; raise `ProcessError` after `within_s` or when a child ends."""
    deadline = time.monotonic() + within_s
    while True:
        if answer := ask():
            return answer
        if children is not None:
            children.check()
        if time.monotonic() > deadline:
            raise ProcessError(f"waited {within_s:.0f} s in vain for {what}")
        time.sleep(0.2)
