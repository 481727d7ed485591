"""The systemd unit: sandboxed, and yet enough for the agent."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "deploy" / "agent" / "kaimon-agent.service"
MOST_EXPOSURE = 2.3  # as measured with systemd 252; 0 is a service that can do nothing

analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (Debian's systemd)")


def said(*arguments: str | Path) -> str:
    done = subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


def setting(name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)


@analyze
def test_the_unit_is_no_more_exposed_than_it_was() -> None:
    report = said("security", "--offline=true", "--no-pager", UNIT)
    level = re.search(r"Overall exposure level for kaimon-agent.service: ([\d.]+)", report)
    assert level, report
    assert float(level[1]) <= MOST_EXPOSURE, report


@analyze
def test_the_unit_has_no_mistake() -> None:
    complaints = [line for line in said("verify", UNIT).splitlines() if "kaimon-agent" in line]
    # The program is not installed here.
    assert [line for line in complaints if "Command /usr/bin/kaimon-agent is not executable" not in line] == []


def test_the_unit_keeps_rows_off_every_disk() -> None:
    assert setting("MemorySwapMax") == ["0"]
    assert setting("LimitCORE") == ["0"]
    assert setting("LimitMEMLOCK") == ["infinity"]


@pytest.mark.root
@analyze
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_the_agent_makes_no_call_that_the_unit_refuses(start: Callable[..., Any], sink: Any, tmp_path: Path) -> None:
    allowed: set[str] = set()
    for line in setting("SystemCallFilter"):  # in their order
        named = {call for name in line.removeprefix("~").split() for call in members(name)}
        allowed = allowed - named if line.startswith("~") else allowed | named
    trace = tmp_path / "trace"
    # -D: the agent is the child, and strace its own grandchild.
    agent = start("--log-level", "debug", under=["strace", "-D", "-f", "-qq", "-o", str(trace), "-e", "signal=none"])
    agent.wait_said("state")  # it has looked after its hooks
    (tmp_path / "f").touch()
    sink.wait(lambda s: any(row["path"] == str(tmp_path / "f") for row in s.rows()))
    agent.stop()
    made = set(re.findall(r"^\d+ +(?:<\.\.\. )?(\w+)[( ]", trace.read_text(errors="replace"), re.MULTILINE))
    assert {"bpf", "futex", "openat", "seccomp"} <= made
    assert made - allowed == set()


def members(name: str) -> set[str]:
    """The calls in one of systemd's sets, which may hold others."""
    if not name.startswith("@"):
        return {name}
    lines = [line.strip() for line in said("syscall-filter", "--no-pager", name).splitlines()[1:]]
    inner = [line for line in lines if line and not line.startswith("#")]
    return {call for one in inner for call in (members(one) if one != name else {one})}


@pytest.mark.root
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv (util-linux)")
def test_the_units_capabilities_and_mounts_are_enough(start: Callable[..., Any], sink: Any, tmp_path: Path) -> None:
    """As systemd would start it: its own mount namespace, no more than the unit's capabilities, no new privileges."""
    [bounding] = setting("CapabilityBoundingSet")
    capabilities = ",".join("+" + name.removeprefix("CAP_").lower() for name in bounding.split())
    rights = ["--bounding-set", "-all," + capabilities, "--inh-caps", "-all", "--no-new-privs"]
    agent = start(under=["unshare", "--mount", "setpriv", *rights])
    path = tmp_path / "f"
    path.touch()
    sink.wait(lambda s: any(row["path"] == str(path) for row in s.rows()))
    agent.stop()
    sink.check()
    [hardened] = [line for line in agent.said() if line["msg"] == "hardened"]
    assert hardened["capabilities"] == ["dac_read_search"]
    assert not [line for line in agent.said() if line["msg"] == "not_all_hardened"]
