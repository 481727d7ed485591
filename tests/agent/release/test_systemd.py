"""The real packages, install script and unit under a real systemd, in namespaces of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.slow]
UNIT = "kaimon-agent.service"
NAMESPACES = ("--mount", "--pid", "--uts", "--ipc", "--cgroup")


def wait(done: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (said := done()):
        assert time.monotonic() < deadline, f"{what}: not in {seconds} s"
        time.sleep(0.05)
    return said


class Machine:
    """A systemd that runs nothing yet, over a copy of this machine's folders."""

    def __init__(self, folder: Path, cgroups: Path) -> None:
        self.log = folder / "console"
        self.cgroup = cgroups / f"kaimon-test-{os.getpid()}"
        self.cgroup.mkdir()
        scratch = folder / "scratch"
        scratch.mkdir()
        boot = Path(__file__).with_name("boot.sh")
        # Its own control group first, which then is the root of all that it sees.
        script = 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"'
        apart = ["unshare", *NAMESPACES, "--propagation", "private", "--fork", "--kill-child", "sh", boot, scratch]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["sh", "-euc", script, "sh", self.cgroup, *apart], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.first = wait(self._first, "its first process")

    def _first(self) -> str:
        assert self.process.poll() is None, self.log.read_text()
        return Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().strip()

    def try_to(self, *command: str | Path, **more: Any) -> subprocess.CompletedProcess[str]:
        inside = ["nsenter", "--target", self.first, *NAMESPACES, "--", "env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
        return subprocess.run([*inside, *command], capture_output=True, text=True, timeout=120, **more)

    def run(self, *command: str | Path, **more: Any) -> str:
        done = self.try_to(*command, **more)
        assert done.returncode == 0, done.stdout + done.stderr + self.log.read_text()
        return done.stdout

    def shown(self, what: str) -> str:
        return self.run("systemctl", "show", "--property", what, "--value", UNIT).strip()

    def told(self) -> str:
        """What the agent and systemd said, for a test that fails."""
        status = self.try_to("systemctl", "--no-pager", "status", UNIT).stdout
        return status + self.try_to("cat", "/run/agent.log").stdout + self.log.read_text()

    def up(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return self.try_to("systemctl", "is-system-running").stdout.strip() == "running"

    def close(self) -> None:
        self.process.kill()  # and its child with it, and with the first process all others
        self.process.wait()

        def gone() -> bool:
            for folder in sorted(self.cgroup.rglob("*/"), reverse=True):
                with contextlib.suppress(OSError):
                    folder.rmdir()
            with contextlib.suppress(OSError):
                self.cgroup.rmdir()
            return not self.cgroup.exists()

        wait(gone, "its processes' end")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    for tool in ("/lib/systemd/systemd", "unshare", "nsenter", "dpkg"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    found = [Path(words[1]) for words in mounts if words[2] == "cgroup2" and "rw" in words[3].split(",")]
    if not found:
        pytest.skip("needs a cgroup2 file system that can be written to")
    made = Machine(tmp_path, found[0])
    try:
        wait(made.up, "systemd")
        yield made
        print(made.told())
    finally:
        made.close()


def test_the_package_lives_under_systemd_from_first_to_last(
    machine: Machine, release: Any, sink: Any, tokens: dict[str, str]
) -> None:
    machine.run("dpkg", "-i", release.of_kind("deb"))
    assert machine.shown("ActiveState") == "inactive"
    settings = f"server: {sink.url}\nca_file: /etc/kaimon/ca.pem\nstate_dir: /var/lib/kaimon-agent\n"
    machine.run("sh", "-c", "cat >/etc/kaimon/agent.yaml", input=settings)
    machine.run("cp", sink.ca, "/etc/kaimon/ca.pem")
    enroll = ["kaimon-agent", "enroll", "--config", "/etc/kaimon/agent.yaml", "--token-file", "-"]
    machine.run(*enroll, input=tokens["enr"])
    assert machine.shown("ActiveState") == "inactive"

    machine.run("systemctl", "enable", "--now", UNIT)
    sink.wait(lambda s: len(s.batches) > 0, 100)
    assert machine.shown("ActiveState") == "active"
    before, load = machine.shown("MainPID"), sink.batches[0].header["load_id"]

    machine.run("dpkg", "-i", release.of_kind("deb"))  # an upgrade, to the same version
    sink.wait(lambda s: s.batches[-1].header["load_id"] != load, 100)
    assert machine.shown("ActiveState") == "active"
    assert machine.shown("MainPID") != before
    [goodbye] = [b for b in sink.batches if b.header["load_id"] == load and b.header.get("final")]
    assert goodbye.header["agent_id"] == "agt_0123456789abcdef"

    machine.run("dpkg", "-P", "kaimon-agent")
    assert sink.batches[-1].header["final"] is True
    assert machine.shown("LoadState") == "not-found"
    left = machine.run("find", "/etc", "/usr/bin", "/usr/lib/systemd", "/var/lib", "-name", "*kaimon*").split()
    assert left == ["/etc/kaimon"]
    assert machine.run("ls", "-A", "/etc/kaimon") == "ca.pem\n", "it was not the package's"
    assert len(sink.enrolled) == 1


def test_install_sh_starts_and_removes_the_service(
    machine: Machine, release: Any, sink: Any, tokens: dict[str, str]
) -> None:
    script = release.folder / "install.sh"
    arguments = ["--server", sink.url, "--ca", sink.ca, "--token-stdin"]
    done = machine.try_to("sh", script, *arguments, input=tokens["enr"])
    assert done.returncode == 0, done.stderr + machine.log.read_text()
    assert "installed, enrolled and started" in done.stderr
    sink.wait(lambda s: len(s.batches) > 0, 100)
    assert machine.shown("ActiveState") == "active"
    assert machine.shown("UnitFileState") == "enabled"
    assert machine.run("readlink", f"/proc/{machine.shown('MainPID')}/exe") == "/usr/local/bin/kaimon-agent\n"

    machine.run("sh", script, "--uninstall", "--purge")
    assert sink.batches[-1].header["final"] is True
    assert machine.shown("LoadState") == "not-found"
    assert machine.run("find", "/etc", "/usr/local", "/var/lib", "-name", "*kaimon*") == ""
