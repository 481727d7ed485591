"""What may watch the machine while a load runs: nothing, the agent, an empty program, bpftrace, auditd."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent_load.sink import token

HERE = Path(__file__).parent
AGENT = HERE.parents[1] / "build" / "kaimon-agent"
TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Cost:
    """CPU seconds of a watcher's own processes while the load ran, and what it delivered of it."""

    user: float = 0.0
    system: float = 0.0
    rows: int = 0
    lost: int = 0


def cpu_of(pid: int) -> tuple[float, float]:
    """Return the user and system seconds that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / TICK, int(fields[12]) / TICK


class Nothing:
    """The baseline."""

    def start(self) -> None:
        """Begin to watch; return once it does."""

    def mark(self) -> None:
        """From now on costs count."""

    def finish(self) -> Cost:
        """Stop watching, with all that is left to do for what was seen."""
        return Cost()


class Process(Nothing):
    """A watcher that is one process."""

    process: subprocess.Popen[bytes]
    marked = (0.0, 0.0)

    def mark(self) -> None:
        self.marked = cpu_of(self.process.pid)

    def kill(self) -> None:
        """End what is left of it after an error."""
        if hasattr(self, "process") and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def end(self, with_signal: int) -> Cost:
        """Stop the process and return what it used since mark()."""
        os.kill(self.process.pid, with_signal)  # send_signal() may reap it, and its account with it
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        return Cost(max(usage.ru_utime - self.marked[0], 0), max(usage.ru_stime - self.marked[1], 0))


@dataclass
class Sink:
    """The server that the agent sends to, as a process of low priority on the last CPU."""

    folder: Path
    batches: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Start it."""
        self.folder.mkdir()
        last = str((os.cpu_count() or 1) - 1)
        command = ["taskset", "-c", last, "nice", "-n", "19", sys.executable, HERE / "sink.py", self.folder]
        path = {**os.environ, "PYTHONPATH": str(HERE.parent)}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, env=path)
        assert self.process.stdout is not None
        self.url = f"https://127.0.0.1:{int(self.process.stdout.readline())}"
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.batches.append(json.loads(line))

    def stop(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()


class Agent(Process):
    """The real agent, as it is used: against a server, with its default settings and any further arguments."""

    def __init__(self, sink: Sink, state: Path, *arguments: str) -> None:
        self.sink, self.state, self.arguments = sink, state, arguments
        self.first_events: list[float] = []
        self.peaks: list[int] = []

    def start(self) -> None:
        self.sink.batches.clear()
        command = [AGENT, "run", "--server", self.sink.url, "--ca", self.sink.folder / "ca.pem"]
        command += ["--state-dir", self.state, "--token-file", "-", "--stop-timeout", "60s", *self.arguments]
        self.started = time.time()
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self.process.stdin is not None
        assert self.process.stderr is not None
        self.process.stdin.write(token("enr").encode() + b"\n")
        self.process.stdin.close()
        said = []
        for line in self.process.stderr:
            said.append(line)
            if json.loads(line)["msg"] == "capturing":
                break
        else:
            raise SystemExit(b"".join(said).decode())
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def in_programs_ns(self) -> int:
        """Return the nanoseconds that all its eBPF programs have run; they are counted within program_clock()."""
        spent: dict[str, int] = {}
        for path in Path(f"/proc/{self.process.pid}/fdinfo").iterdir():
            fields = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
            if "run_time_ns" in fields:
                spent[fields["prog_id"]] = int(fields["run_time_ns"])
        return sum(spent.values())

    def finish(self) -> Cost:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        self.peaks.append(int(status.partition("VmHWM:")[2].split()[0]) * 1024)
        cost = self.end(signal.SIGTERM)
        if self.process.returncode != 0:
            raise SystemExit(f"the agent ended with {self.process.returncode}")
        deadline = time.monotonic() + 10
        while not (self.sink.batches and self.sink.batches[-1]["final"]) and time.monotonic() < deadline:
            time.sleep(0.01)
        first = min(batch["first"] for batch in self.sink.batches if batch["first"])
        self.first_events.append(first / 1e6 - self.started)
        cost.rows = sum(batch["rows"] for batch in self.sink.batches)
        cost.lost = sum(self.sink.batches[-1]["lost"].values())
        return cost


def why_no_agent() -> str | None:
    """Return why the agent cannot be measured here."""
    if os.geteuid() != 0:
        return "needs root"
    if not Path("/sys/kernel/btf/vmlinux").exists():
        return "needs a kernel with BTF"
    missing = [tool for tool in ("gcc", "make", "taskset") if shutil.which(tool) is None]
    return f"needs {', '.join(missing)}" if missing else None


@contextlib.contextmanager
def program_clock() -> Iterator[None]:
    """Have the kernel measure each run of an eBPF program, which itself costs some 50 ns a run."""
    switch = Path("/proc/sys/kernel/bpf_stats_enabled")
    was = switch.read_text()
    switch.write_text("1")
    try:
        yield
    finally:
        switch.write_text(was)


class Empty(Process):
    """A program at the exit of system calls that does nothing."""

    def __init__(self, program: Path) -> None:
        self.program = program

    def start(self) -> None:
        self.process = subprocess.Popen([self.program], stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        if self.process.stdout.readline() != b"ready\n":
            raise SystemExit("the empty program does not attach")

    def finish(self) -> Cost:
        return self.end(signal.SIGTERM)


class Bpftrace(Process):
    """bpftrace with same_job.bt; what it prints is read and thrown away."""

    def start(self) -> None:
        # tracefs in a mount namespace of its own: the machine may not have it mounted.
        mounts = "mount -t debugfs none /sys/kernel/debug && mount -t tracefs none /sys/kernel/tracing"
        script = f'{mounts}; exec bpftrace --no-warnings "$0"'
        self.process = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", script, HERE / "same_job.bt"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.cost = Cost()
        self.heard: queue.Queue[bytes] = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        deadline = time.monotonic() + 30
        while self.heard.empty():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("bpftrace does not start")
            Path("/proc/self/stat").read_bytes()
            time.sleep(0.02)

    def _read(self) -> None:
        assert self.process.stdout is not None
        descriptor, rest = self.process.stdout.fileno(), b""
        while chunk := os.read(descriptor, 1 << 20):
            lines, _, rest = (rest + chunk).rpartition(b"\n")
            self.cost.rows += lines.count(b"\nopen ") + lines.count(b"\nwrite ")
            self.cost.lost += sum(map(int, re.findall(rb"^Lost (\d+) events", lines, re.MULTILINE)))
            if b"open " in lines and self.heard.empty():
                self.heard.put(b"")

    def finish(self) -> Cost:
        os.kill(self.process.pid, signal.SIGINT)  # it prints what it holds, then ends
        self.reader.join(60)
        cost = self.end(signal.SIGINT)
        cost.rows, cost.lost = self.cost.rows, self.cost.lost
        return cost


def why_no_bpftrace() -> str | None:
    """Return why bpftrace cannot run here."""
    return None if shutil.which("bpftrace") else "bpftrace is not installed"


AUDIT_CALLS = (
    "open,openat,openat2,creat,open_by_handle_at,write,pwrite,writev,pwritev,pwritev2,sendfile,copy_file_range,splice,fallocate,"
    "rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,mknod,mknodat,link,linkat,symlink,symlinkat,"
    "chmod,fchmod,fchmodat,chown,fchown,lchown,fchownat,truncate,ftruncate"
)


class Auditd(Process):
    """auditd with a rule for the calls that the agent watches, as Debian sets it up."""

    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="kaimon-bench-audit-")
        folder = Path(self.folder.name)
        conf = {
            "local_events": "yes", "write_logs": "yes", "log_file": folder / "audit.log", "log_format": "ENRICHED",
            "flush": "INCREMENTAL_ASYNC", "freq": 50, "max_log_file": 512, "num_logs": 2,
            "max_log_file_action": "ROTATE", "space_left": 75, "space_left_action": "IGNORE", "admin_space_left": 50,
            "admin_space_left_action": "IGNORE", "disk_full_action": "IGNORE", "disk_error_action": "IGNORE",
        }  # fmt: skip
        (folder / "auditd.conf").write_text("".join(f"{key} = {value}\n" for key, value in conf.items()))
        (folder / "auditd.conf").chmod(0o640)
        control("-D")
        control("-b", "8192", "-f", "1", "--backlog_wait_time", "60000")
        self.process = subprocess.Popen(["auditd", "-n", "-c", folder], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while f"pid {self.process.pid}\n" not in control("-s") or "enabled 1\n" not in control("-s"):
            if time.monotonic() > deadline:
                raise SystemExit("auditd does not start")
            time.sleep(0.05)
        control("-a", "always,exit", "-F", "arch=b64", "-S", AUDIT_CALLS, "-F", "success=1")
        self.lost = status_field("lost")

    def mark(self) -> None:
        super().mark()
        self.daemon = cpu_of(kernel_thread("kauditd"))

    def finish(self) -> Cost:
        deadline = time.monotonic() + 60
        while status_field("backlog") > 0 and time.monotonic() < deadline:
            control("-D")
            time.sleep(0.05)
        lost = status_field("lost") - self.lost
        audit_off()
        daemon = cpu_of(kernel_thread("kauditd"))
        cost = self.end(signal.SIGTERM)
        cost.system += daemon[1] - self.daemon[1]
        cost.lost = lost
        self.folder.cleanup()
        return cost


def control(*arguments: str) -> str:
    """Run auditctl and return what it says."""
    return subprocess.run(["auditctl", *arguments], capture_output=True, check=True, text=True).stdout


def status_field(name: str) -> int:
    """Return one number of the kernel's audit status."""
    return next(int(line.split()[1]) for line in control("-s").splitlines() if line.startswith(name + " "))


def kernel_thread(name: str) -> int:
    """Return the id of a kernel thread."""
    return next(int(path.parent.name) for path in Path("/proc").glob("[0-9]*/comm") if path.read_text() == name + "\n")


def audit_off() -> None:
    """Leave auditing off, and new processes without an audit context: else each of their calls takes the slow way."""
    control("-D")
    control("-e", "0")
    control("-a", "never,task")


def why_no_auditd() -> str | None:
    """Return why auditd cannot run here."""
    if not (shutil.which("auditd") and shutil.which("auditctl")):
        return "auditd is not installed"
    asked = subprocess.run(["auditctl", "-s"], check=False, capture_output=True, text=True)
    if asked.returncode != 0:
        return "the kernel does not audit: " + (asked.stderr.strip().splitlines() or ["no answer"])[-1]
    if status_field("pid") or status_field("enabled"):
        return "auditing is in use on this machine"
    return None
