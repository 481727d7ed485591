"""install.sh removes what it installed; and the whole of it on this very machine, in a mount namespace."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

BINARY, SETTINGS = "usr/local/bin/kaimon-agent", "etc/kaimon/agent.yaml"
UNIT, STATE = "etc/systemd/system/kaimon-agent.service", "var/lib/kaimon-agent"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the release of these tests is tried on x86_64")


def test_removing_keeps_settings_and_credential_unless_told_and_leaves_what_is_not_its_own(
    installer: Any,
) -> None:
    installer.run(*installer.to_sink())
    root = installer.root
    said = installer.run("--uninstall", token="")
    assert "--purge" in said
    kept = {SETTINGS, "etc/kaimon/ca.pem", f"{STATE}/credential.json", f"{STATE}/lock"}
    assert installer.files() == kept
    installer.run("--token-stdin", token="")
    assert installer.files() == kept | {BINARY, UNIT}
    assert len(installer.sink.enrolled) == 1, "it is still enrolled"
    (root / "etc/kaimon/mine").touch()
    installer.run("--uninstall", "--purge", token="")
    assert installer.files() == {"etc/kaimon/mine"}
    assert not (root / STATE).exists()
    installer.run("--uninstall", "--purge", token="")


@pytest.mark.root
def test_removing_stops_the_agent_that_runs_and_its_goodbye_arrives(installer: Any) -> None:
    installer.run(*installer.to_sink())
    root = installer.root
    command = [
        root / BINARY,
        "run",
        "--config",
        root / SETTINGS,
        "--state-dir",
        root / STATE,
        "--ca",
        installer.sink.ca,
    ]
    agent = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        installer.sink.wait(lambda s: bool(s.batches))
        installer.run("--uninstall", "--purge", token="")
        assert agent.wait(1) == 0
    finally:
        agent.kill()
        agent.wait()
    assert installer.sink.batches[-1].header["final"] is True
    assert installer.files() == set()


# A mount namespace in which what is written to this machine's folders is gone afterwards.
APART = """
set -eu
scratch=$1
shift
mount -t tmpfs tmpfs "$scratch"
for folder in usr etc var; do
    mkdir -p "$scratch/$folder/upper" "$scratch/$folder/work"
    layers=lowerdir=/$folder,upperdir=$scratch/$folder/upper,workdir=$scratch/$folder/work
    mount -t overlay overlay -o "$layers" "/$folder"
done
mount -t tmpfs tmpfs /run
"$@"
"""


def apart(folder: Path, script: str, *arguments: str | Path, **more: Any) -> subprocess.CompletedProcess[str]:
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", APART, "sh", scratch]
    return subprocess.run(
        [*command, "sh", "-euc", script, "sh", *arguments], capture_output=True, text=True, timeout=200, **more
    )


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    tried = apart(tmp_path, "true")
    if tried.returncode != 0:
        pytest.skip(f"needs mount namespaces and overlayfs: {tried.stderr.strip()}")
    return tmp_path


@pytest.mark.root
@pytest.mark.parametrize("init", ["systemd", "none"])
def test_on_this_very_machine_it_tries_the_kernel_installs_starts_and_removes(
    init: str, installer: Any, machine: Path
) -> None:
    """With --root left out, in a mount namespace; systemctl is a stand-in that notes what it is asked."""
    script = """
        if [ "$1" = systemd ]; then
            mkdir -p /run/systemd/system
            printf '#!/bin/sh\\necho "asked: $*"\\n' >/usr/local/bin/systemctl
            chmod 755 /usr/local/bin/systemctl
        fi
        shift
        "$@" 2>&1
        ls -l /usr/local/bin/kaimon-agent /etc/systemd/system/kaimon-agent.service /var/lib/kaimon-agent/credential.json
        /usr/local/bin/kaimon-agent settings --config /etc/kaimon/agent.yaml >/dev/null
        sh "$2" --uninstall --purge 2>&1
        ! ls -d /usr/local/bin/kaimon-agent /etc/kaimon /var/lib/kaimon-agent 2>/dev/null
    """
    command = installer.command(*installer.to_sink(), root=False)
    done = apart(machine, script, init, *command, input=installer.token, env=os.environ | {"PATH": PATH})
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(installer.sink.enrolled) == 1
    asked = [line.removeprefix("asked: ") for line in done.stdout.splitlines() if line.startswith("asked: ")]
    if init == "systemd":
        unit = "kaimon-agent.service"
        assert asked == [
            "daemon-reload", f"enable {unit}", f"restart {unit}", f"disable --now {unit}", "daemon-reload"
        ]  # fmt: skip
        assert "installed, enrolled and started" in done.stdout
    else:
        assert asked == []
        assert "/usr/local/bin/kaimon-agent run --config /etc/kaimon/agent.yaml" in done.stdout
    assert not Path("/usr/local/bin/kaimon-agent").exists()


@pytest.mark.root
def test_it_keeps_its_hands_off_a_package(installer: Any, release: Any, machine: Path) -> None:
    if shutil.which("dpkg") is None:
        pytest.skip("needs dpkg")
    script = """
        dpkg -i "$1" >/dev/null 2>&1
        shift
        ! "$@" 2>&1
        ! sh "$2" --uninstall --purge 2>&1
        /usr/bin/kaimon-agent version
    """
    command = installer.command(*installer.to_sink(), root=False)
    done = apart(machine, script, release.of_kind("deb"), *command, env=os.environ | {"PATH": PATH})
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == [
        "install.sh: kaimon-agent is here as a package: upgrade it as one",
        "install.sh: kaimon-agent is here as a package: remove it as one",
        f"kaimon-agent {release.version}",
    ]
