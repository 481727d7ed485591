"""The .deb and the .rpm, installed by dpkg and rpm into a root of their own, upgraded and removed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

CREDENTIAL = "var/lib/kaimon-agent/credential.json"
LINK = "etc/systemd/system/multi-user.target.wants/kaimon-agent.service"
# Notes what it is asked, and remembers what is enabled. No systemd runs in these roots.
SYSTEMCTL = f"""#!/bin/sh
echo "$*" >>/systemctl.log
for word; do
    case $word in
    enable) : >/{LINK} ;;
    disable) rm -f /{LINK} ;;
    is-enabled) [ -e /{LINK} ] || exit 1 ;;
    esac
done
"""


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


class Root:
    """A folder that looks like a small system to its package manager: a shell, and a record of calls of systemctl."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("bin", "usr/bin", "run/systemd/system", "tmp", LINK.rsplit("/", 1)[0], "var/lib/dpkg/info",
                     "var/lib/dpkg/updates", "var/lib/rpm"):  # fmt: skip
            (folder / name).mkdir(parents=True)
        (folder / "var/lib/dpkg/status").touch()
        busybox = shutil.which("busybox")
        assert busybox is not None
        shutil.copy(busybox, folder / "bin/busybox")
        for name in ("sh", "cat", "rm", "rmdir"):
            (folder / "bin" / name).symlink_to("busybox")
        (folder / "usr/bin/systemctl").write_text(SYSTEMCTL)
        (folder / "usr/bin/systemctl").chmod(0o755)

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def dpkg(self, *arguments: str | Path, code: int = 0) -> str:
        done = run("dpkg", f"--root={self.folder}", "--force-not-root", *arguments)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def rpm(self, *arguments: str | Path, code: int = 0) -> str:
        done = run("rpm", "--root", self.folder, "--dbpath", "/var/lib/rpm", *arguments)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def asked(self) -> list[str]:
        """What systemctl was asked since the last time."""
        log = self / "systemctl.log"
        said = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return [line for line in said if "daemon-reload" not in line and "is-enabled" not in line]

    def enroll(self) -> None:
        (self / CREDENTIAL).write_text("{}")

    def ours(self) -> set[str]:
        """The files that are there because of the agent."""
        return {
            path.relative_to(self.folder).as_posix()
            for top in ("etc", "usr", "var/lib")
            for path in (self / top).rglob("*")
            if "kaimon" in path.relative_to(self.folder).as_posix()
        }


@pytest.fixture
def root(tmp_path: Path) -> Root:
    if os.geteuid() != 0:
        pytest.skip("needs root: maintainer scripts run in a chroot")
    for tool in ("dpkg", "rpm", "busybox"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    return Root(tmp_path / "root")


def newer(release: Any, kind: str, folder: Path) -> Path:
    """The same package as a later version, by the same tool and scripts."""
    work = folder / "work"
    work.mkdir()
    shutil.copy(release.binary(), work / "kaimon-agent")
    for name in ("sbom", "licences"):
        (work / name).write_text(name)
    subprocess.run(
        ["build/tools/nfpm", "package", "-f", "deploy/agent/nfpm.yaml", "-p", kind, "-t", folder / f"newer.{kind}"],
        cwd=Path(__file__).resolve().parents[3],
        env=os.environ | {"VERSION": "99.0.0", "ARCH": "amd64", "WORK": str(work), "SOURCE_DATE_EPOCH": "1"},
        check=True,
        capture_output=True,
    )
    return folder / f"newer.{kind}"


def test_the_deb_says_what_it_is_and_holds_what_it_should(release: Any) -> None:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("needs dpkg-deb")
    fields = run("dpkg-deb", "-f", release.of_kind("deb")).stdout
    assert f"Version: {release.version}-1\n" in fields
    assert "Architecture: amd64\n" in fields
    assert "Depends:" not in fields
    [other] = release.folder.glob("*_arm64.deb")
    assert "Architecture: arm64\n" in run("dpkg-deb", "-f", other).stdout
    assert run("dpkg-deb", "-I", release.of_kind("deb"), "conffiles").stdout.split() == ["/etc/kaimon/agent.yaml"]
    check_listing(run("dpkg-deb", "-c", release.of_kind("deb")).stdout, column=5)


def test_the_rpm_says_what_it_is_and_holds_what_it_should(release: Any) -> None:
    if shutil.which("rpm") is None:
        pytest.skip("needs rpm")
    rpm = release.of_kind("rpm")
    asked = "%{NAME} %{VERSION}-%{RELEASE} %{ARCH} %{BUILDHOST} %{BUILDTIME}"
    assert run("rpm", "-qp", "--qf", asked, rpm).stdout == (
        f"kaimon-agent {release.version}-1 x86_64 reproducible 1790000000"
    )
    assert run("rpm", "-qpc", rpm).stdout.split() == ["/etc/kaimon/agent.yaml"]
    assert run("rpm", "-K", rpm).stdout.endswith(": digests OK\n")
    check_listing(run("rpm", "-qplv", rpm).stdout, column=8)


def check_listing(listing: str, column: int) -> None:
    """Modes and owners of a listing like that of ls -l."""
    found = {}
    for line in listing.splitlines():
        words = line.split()
        assert words[1] == "root/root" or words[2:4] == ["root", "root"]
        found[words[column].lstrip(".").rstrip("/")] = words[0]
    expected = {
        "/usr/bin/kaimon-agent": "-rwxr-xr-x",
        "/usr/lib/systemd/system/kaimon-agent.service": "-rw-r--r--",
        "/etc/kaimon": "drwxr-xr-x",
        "/etc/kaimon/agent.yaml": "-rw-r-----",
        "/var/lib/kaimon-agent": "drwx------",
        "/usr/share/doc/kaimon-agent": "drwxr-xr-x",
        "/usr/share/doc/kaimon-agent/README.md": "-rw-r--r--",
        "/usr/share/doc/kaimon-agent/copyright": "-rw-r--r--",
        "/usr/share/doc/kaimon-agent/sbom.cdx.json": "-rw-r--r--",
    }
    there = {name: mode for name, mode in found.items() if mode[0] != "d" or name in expected}
    assert there == expected


def test_a_deb_starts_nothing_before_the_host_is_enrolled_and_says_how(release: Any, root: Root) -> None:
    said = root.dpkg("-i", release.of_kind("deb"))
    assert root.asked() == []
    assert "kaimon-agent enroll --config /etc/kaimon/agent.yaml" in said
    assert (root / "usr/bin/kaimon-agent").read_bytes() == release.binary().read_bytes()
    assert (root / "var/lib/kaimon-agent").stat().st_mode & 0o777 == 0o700
    version = run("chroot", root.folder, "/usr/bin/kaimon-agent", "version").stdout
    assert version == f"kaimon-agent {release.version}\n"
    settings = ["/usr/bin/kaimon-agent", "settings", "--config", "/etc/kaimon/agent.yaml"]
    assert "state_dir: /var/lib/kaimon-agent\n" in run("chroot", root.folder, *settings).stdout


def test_an_upgraded_deb_restarts_what_is_enabled_and_keeps_settings_and_credential(
    release: Any, root: Root, tmp_path: Path
) -> None:
    root.dpkg("-i", release.of_kind("deb"))
    root.enroll()
    settings = root / "etc/kaimon/agent.yaml"
    settings.write_text("server: https://mine\n")
    root.dpkg("-i", newer(release, "deb", tmp_path))
    assert root.asked() == [], "it was never enabled"
    (root / LINK).touch()
    root.dpkg("-i", release.of_kind("deb"))
    assert root.asked() == ["restart kaimon-agent.service"]
    assert settings.read_text() == "server: https://mine\n"
    assert (root / CREDENTIAL).exists()


def test_a_removed_deb_is_stopped_and_comes_back_as_it_was_and_purging_leaves_nothing(release: Any, root: Root) -> None:
    root.dpkg("-i", release.of_kind("deb"))
    root.enroll()
    (root / LINK).touch()
    root.dpkg("-r", "kaimon-agent")
    assert root.asked() == ["stop kaimon-agent.service"]
    assert (root / CREDENTIAL).exists()
    assert (root / "etc/kaimon/agent.yaml").exists()
    assert not (root / "usr/bin/kaimon-agent").exists()

    root.dpkg("-i", release.of_kind("deb"))
    assert root.asked() == ["restart kaimon-agent.service"]
    (root / "etc/kaimon/mine.pem").write_text("the administrator's")
    root.dpkg("-P", "kaimon-agent")
    assert root.asked() == ["stop kaimon-agent.service"]
    assert root.ours() == {"etc/kaimon", "etc/kaimon/mine.pem"}
    (root / "etc/kaimon/mine.pem").unlink()
    root.dpkg("-i", release.of_kind("deb"))
    root.dpkg("-P", "kaimon-agent")
    assert root.ours() == set()


def test_a_deb_is_not_installed_beside_what_install_sh_installed(release: Any, root: Root) -> None:
    for name in ("usr/local/bin/kaimon-agent", "etc/systemd/system/kaimon-agent.service"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    assert "install.sh --uninstall" in root.dpkg("-i", release.of_kind("deb"), code=1)
    assert not (root / "usr/bin/kaimon-agent").exists()


def test_an_rpm_is_installed_upgraded_and_removed(release: Any, root: Root, tmp_path: Path) -> None:
    root.rpm("--initdb")
    said = root.rpm("-i", release.of_kind("rpm"))
    assert root.asked() == []
    assert "kaimon-agent enroll" in said
    assert (root / "usr/bin/kaimon-agent").read_bytes() == release.binary().read_bytes()
    root.enroll()
    settings = root / "etc/kaimon/agent.yaml"
    settings.write_text("server: https://mine\n")
    root.rpm("-U", newer(release, "rpm", tmp_path))
    assert root.asked() == [], "it was never enabled"
    (root / LINK).touch()
    root.rpm("-U", "--oldpackage", release.of_kind("rpm"))
    assert root.asked() == ["restart kaimon-agent.service"]
    assert settings.read_text() == "server: https://mine\n"

    assert "its credential is still in" in root.rpm("-e", "kaimon-agent")
    assert root.asked() == ["disable --now kaimon-agent.service"]
    assert root.ours() == {
        "etc/kaimon", "etc/kaimon/agent.yaml.rpmsave", "var/lib/kaimon-agent", CREDENTIAL
    }  # fmt: skip
    root.rpm("-i", release.of_kind("rpm"))
    assert root.asked() == ["enable kaimon-agent.service", "restart kaimon-agent.service"]
