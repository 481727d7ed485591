"""What the agent can still do once it captures, read from the kernel and tried."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root
AGENT = Path(__file__).resolve().parents[2] / "build" / "kaimon-agent"
DAC_READ_SEARCH, IPC_LOCK, SETPCAP = 1 << 2, 1 << 14, 1 << 8


def threads(pid: int) -> Iterator[dict[str, str]]:
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        lines = (line.partition(":") for line in status.read_text().splitlines())
        yield {key: value.strip() for key, _, value in lines}


def own(key: str) -> int:
    [mine] = (thread for thread in threads(os.getpid()) if thread["Pid"] == str(os.getpid()))
    return int(mine[key], 16)


def mappings(pid: int) -> Iterator[tuple[str, list[str]]]:
    """Each mapping's first line and its flags."""
    what = ""
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if line.startswith("VmFlags:"):
            yield what, line.split()[1:]
        elif ":" not in line.split()[0]:
            what = line


def test_every_thread_has_laid_down_what_it_does_not_need(start: Callable[..., Any], tmp_path: Path) -> None:
    agent = start()
    for number in range(200):
        (tmp_path / f"f{number}").touch()
    [said] = [line for line in agent.said() if line["msg"] == "hardened"]
    assert not [line for line in agent.said() if line["msg"] == "not_all_hardened"]
    all_threads = list(threads(agent.process.pid))
    assert len(all_threads) > 3
    for thread in all_threads:
        # Where the limit on locked memory cannot be lifted, the right to lock is kept instead.
        for key in ("CapEff", "CapPrm"):
            assert int(thread[key], 16) & ~IPC_LOCK == own(key) & DAC_READ_SEARCH
        assert int(thread["CapBnd"], 16) & ~IPC_LOCK == own("CapBnd") & DAC_READ_SEARCH
        assert int(thread["CapInh"], 16) == int(thread["CapAmb"], 16) == 0
        assert thread["NoNewPrivs"] == "1"
        assert thread["Seccomp"] == "2"
    kept = int(all_threads[0]["CapEff"], 16)
    assert said["capabilities"] == [
        n for bit, n in ((DAC_READ_SEARCH, "dac_read_search"), (IPC_LOCK, "ipc_lock")) if kept & bit
    ]
    agent.stop()


def test_memory_is_locked_and_never_dumped(start: Callable[..., Any]) -> None:
    agent = start()
    limits = Path(f"/proc/{agent.process.pid}/limits").read_text()
    [core] = [line for line in limits.splitlines() if line.startswith("Max core file size")]
    assert core.split()[4:6] == ["0", "0"]
    [said] = [line for line in agent.said() if line["msg"] == "hardened"]
    assert said["no_core_dump"] is True
    refused = [line["error"] for line in agent.said() if line["msg"] == "memory_not_locked"]
    if refused:
        pytest.skip(f"memory cannot be locked here: {refused[0]}")
    assert said["memory_locked"] is True
    ours = [(what, flags) for what, flags in mappings(agent.process.pid) if "w" in what and not what.split()[5:]]
    assert ours
    # dp: droppable (the state of getrandom), which the kernel forgets instead of swapping it.
    assert [one for one in ours if not {"lo", "dp"} & set(one[1])] == []
    assert agent.memory("VmRSS") < 100 << 20
    agent.stop()


def test_forbidden_calls_are_refused() -> None:
    said = json.loads(subprocess.run([AGENT, "probe", "--json"], capture_output=True, check=True).stdout)
    tried = said["hardening"]["attempts"]
    assert len(tried) > 20
    assert [attempt for attempt in tried if not attempt["refused"]] == []
    assert said["hardening"]["calls_allowed"] > 50
    assert said["hardening"]["writes_confined"] is True
    assert "problem" not in said["hardening"]


def test_a_sealed_agent_still_finds_its_server_by_name_and_again(
    start: Callable[..., Any], sink: Any, tmp_path: Path
) -> None:
    """Names are looked up, files read, connections made with what is left; the certificate is for 127.0.0.1."""
    agent = start()
    sink.stop()
    agent.wait_said("server_unreachable")
    sink.start()
    path = tmp_path / "after"
    path.touch()
    sink.wait(lambda s: any(row["path"] == str(path) for row in s.rows()))
    agent.stop()
    sink.check()
    assert socket.gethostbyname("localhost") == "127.0.0.1"
    named = start("--server", f"https://localhost:{sink.port}", enroll=False)
    named.wait_said("server_unreachable")
    errors = [line["error"] for line in named.said() if line["msg"] == "server_unreachable"]
    assert all("certificate" in error for error in errors), errors
    named.process.kill()


@pytest.mark.skipif(not Path("/usr/bin/setpriv").exists(), reason="needs setpriv (util-linux)")
def test_with_fewer_rights_it_says_what_it_could_not_do(sink: Any, tmp_path: Path, tokens: dict[str, str]) -> None:
    command = [
        "setpriv",
        "--bounding-set",
        "-ipc_lock,-sys_resource,-setpcap",
        "--inh-caps",
        "-all",
        AGENT,
        "probe",
        "--json",
    ]
    said = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["hardening"]
    assert said["memory_locked"] is False
    assert said["memory_not_locked_because"]
    assert len(said["bounding"]) > 10
    assert "problem" not in said
    assert said["no_new_privileges"] is True
    assert said["capabilities"] == ["dac_read_search"]
