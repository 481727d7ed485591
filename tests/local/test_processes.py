"""Child processes never outlive their block, and one that ends early is reported with what it said."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kaimon.local.processes import Children, ProcessError, wait_for

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
while True: time.sleep(1)
"""


def test_a_child_that_ends_early_is_reported_with_its_last_words(tmp_path: Path) -> None:
    with Children(tmp_path) as children:
        child = children.start("short", [sys.executable, "-c", "print('alas'); raise SystemExit(3)"])
        child.process.wait(timeout=30)
        with pytest.raises(ProcessError, match=r"(?s)short ended with status 3.*alas"):
            wait_for("what never comes", lambda: False, 30, children)


def test_a_child_that_ignores_sigterm_is_ended_all_the_same(tmp_path: Path) -> None:
    with Children(tmp_path) as children:
        child = children.start("stubborn", [sys.executable, "-c", STUBBORN])
        wait_for("it to be ready", lambda: "ready" in child.tail(), 30, children)
        assert children.stop_one(child, grace_s=0.2) == -9


def test_no_child_outlives_the_block(tmp_path: Path) -> None:
    with Children(tmp_path) as children:
        child = children.start("long", [sys.executable, "-c", "import time; time.sleep(600)"])
    assert child.process.returncode == -15


def test_what_a_child_started_and_left_ends_with_it(tmp_path: Path) -> None:
    leaver = "import subprocess; print(subprocess.Popen(['sleep', '600']).pid, flush=True)"
    with Children(tmp_path) as children:
        child = children.start("leaver", [sys.executable, "-c", leaver])
        orphan = int(wait_for("its word", child.tail, 30))
        assert child.process.wait(timeout=30) == 0
    wait_for("the orphan to end", lambda: ended(orphan), 30)


def ended(pid: int) -> bool:
    """Whether a process is gone, or dead and not yet reaped by whoever inherited it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_waiting_ends_with_what_was_waited_for() -> None:
    with pytest.raises(ProcessError, match="in vain for the moon"):
        wait_for("the moon", lambda: None, 0.1)
