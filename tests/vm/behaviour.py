"""Runs the agent's behaviour suite, here or in a virtual machine, and keeps what it printed in build/."""

from __future__ import annotations

import base64
import gzip
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import kernels
import machine

# What each kernel allows; natively only what the machine does. fentry came to arm64 with 6.4.
MODES = {
    "6.1-amd64": ("fentry", "kprobe", "sys_exit"),
    "6.12-amd64": ("fentry", "kprobe", "sys_exit"),
    "6.1-arm64": ("kprobe", "sys_exit"),
    "6.12-arm64": ("fentry", "kprobe", "sys_exit"),
}
BEGIN, END = "=== report ", "=== end of report"
# A report goes over the console as text that no message of the kernel can be mistaken for.
SCRIPT = f"""
for mode in {{modes}}; do
    ./suite --agent ./kaimon-agent --mode $mode --folder /tmp >report 2>said || {{{{
        echo "$mode: $(cat said)"
        continue
    }}}}
    echo "{BEGIN}$mode"; gzip -c report | base64; echo "{END}"
done
"""

Report = dict[str, Any]


def build(what: str, name: str, arch: str) -> Path:
    """A static binary of agent/`what` for the architecture, at build/`name`-`arch`."""
    out = kernels.ROOT / "build" / f"{name}-{arch}"
    go = subprocess.run([kernels.ROOT / "script/build-agent", "--print-go"], capture_output=True, text=True, check=True)
    environment = {**os.environ, "CGO_ENABLED": "0", "GOARCH": arch, "GOTOOLCHAIN": "local"}
    command = [go.stdout.strip(), "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", out]
    subprocess.run([*command, f"./{what}"], cwd=kernels.ROOT / "agent", env=environment, check=True)
    return out


def native(agent: Path, mode: str) -> Report:
    """Raises RuntimeError with what the suite said if the agent does not capture in this mode here."""
    arch = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    command = [build("suite", "suite", arch), "--agent", agent, "--mode", mode]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    report: Report = json.loads(done.stdout)
    _keep(report, mode, "native")
    return report


def virtual(name: str) -> tuple[dict[str, Report], str]:
    """The reports by mode of one boot of the kernel, and all that its console said beside them."""
    kernel = kernels.get(name)
    files = {
        "kaimon-agent": build("cmd/kaimon-agent", "kaimon-agent", kernel.arch),
        "suite": build("suite", "suite", kernel.arch),
    }
    lines: list[str] = []
    machine.boot(kernel, files, SCRIPT.format(modes=" ".join(MODES[name])), lines.append)
    reports: dict[str, Report] = {}
    said, rest = [], iter(lines)
    for line in rest:
        if not line.startswith(BEGIN):
            said.append(line)
            continue
        mode, text = line.removeprefix(BEGIN), []
        for part in rest:
            if part == END:
                break
            text.append(part)
        reports[mode] = json.loads(gzip.decompress(base64.b64decode("".join(text), validate=True)))
        _keep(reports[mode], mode, name)
    return reports, "\n".join(said)


def _keep(report: Report, mode: str, where: str) -> None:
    report["where"] = where
    out = kernels.ROOT / "build" / f"behaviour-{mode}-{where}.json"
    out.write_text(json.dumps(report, indent=1) + "\n")
