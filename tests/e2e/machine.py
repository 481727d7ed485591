"""A machine to install the agent on as the portal's pages say: a tree of its own, a terminal, a signed release."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kaimon.local.processes import Child, Children, wait_for
from kaimon.local.stack import AGENT

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Host:
    """A tree on which the agent is installed as on a machine of its own."""

    root: Path

    def install(self, line: str, release: Path, token: str, *more: str | Path, code: int = 0) -> str:
        """Run the line that the portal shows as somebody at a terminal does; return all that the terminal showed.

        Args:
            line: as it is shown.
            release: the folder it is run in.
            token: what is typed where the token is asked for.
            more: what this machine needs beyond it, such as another root.
            code: with which it must end.
        """
        terminal, theirs = os.openpty()
        words = [str(word) for word in ("--root", self.root, *more)]
        command = ["setsid", "-c", "-w", "sh", "-c", f'{line} "$@"', "sh", *words]
        process = subprocess.Popen(command, cwd=release, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        shown, answered = b"", False
        while part := _read(terminal):
            shown += part
            if not answered and b"Enrollment token" in shown:
                os.write(terminal, token.encode() + b"\n")
                answered = True
        os.close(terminal)
        assert process.wait(60) == code, shown.decode()
        assert answered, shown.decode()
        return shown.decode()

    def start(self, children: Children, watched: Path) -> Child:
        """Start what was installed, watching one folder; wait until it captures."""
        state = self.root / "var/lib/kaimon-agent"
        command: Sequence[str | Path] = [
            self.root / "usr/local/bin/kaimon-agent", "run", "--config", self.root / "etc/kaimon/agent.yaml",
            "--state-dir", state, "--ca", self.root / "etc/kaimon/ca.pem", "--include", watched,
            "--cut-interval", "200ms", "--heartbeat", "1s", "--auth-retry", "500ms", "--collapse-window", "0",
        ]  # fmt: skip
        child = children.start("agent", command)
        wait_for("the agent to capture", lambda: "capturing" in child.log.read_text(errors="replace"), 60, children)
        return child


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # how a terminal says that nobody is at its other end any more
        return b""


def make_release(folder: Path) -> Path:
    """Make what `install.sh` needs of a release, of the agent that is built here, signed; return the public key."""
    folder.mkdir()
    key, public = folder.parent / "release.key", folder.parent / "release.pub"
    openssl = ["openssl", "genpkey", "-algorithm", "ed25519", "-out", key]
    subprocess.run(openssl, check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public], check=True, capture_output=True)
    arch = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    shutil.copy(AGENT, folder / f"kaimon-agent-0-linux-{arch}")
    for name in ("agent.yaml", "kaimon-agent.service", "install.sh"):
        shutil.copy(ROOT / "deploy" / "agent" / name, folder)
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}" for file in sorted(folder.iterdir())]
    (folder / "SHA256SUMS").write_text("\n".join(sums) + "\n")
    sign = ["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", key]
    sign += ["-in", folder / "SHA256SUMS", "-out", folder / "SHA256SUMS.sig"]
    subprocess.run(sign, check=True, capture_output=True)
    return public
