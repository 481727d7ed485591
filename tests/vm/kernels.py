"""Stock Debian kernels and a static busybox, unpacked below build/kernels from the mirror that the machine itself uses.

The machine's own package sources are read and never changed: apt works on lists and a cache of its own.
"""

from __future__ import annotations

import fcntl
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / "build" / "kernels"
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
SUITES = {"6.1": "bookworm", "6.12": "trixie"}
NAMES = tuple(f"{version}-{arch}" for arch in ("amd64", "arm64") for version in SUITES)


class UnavailableError(RuntimeError):
    """This machine cannot have the kernel; the message says why."""


@dataclass(frozen=True)
class Kernel:
    """`name` as in NAMES; `release` as `uname -r` says it; `image` boots, `modules` holds its .ko files."""

    name: str
    arch: str
    release: str
    image: Path
    modules: Path
    busybox: Path


def get(name: str) -> Kernel:
    """Download and unpack on the first call; later calls find it done. Raises UnavailableError."""
    version, arch = name.split("-")
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        home = HOME / name
        if not (home / "done").exists():
            shutil.rmtree(home, ignore_errors=True)
            _fetch(home, SUITES[version], arch)
            (home / "done").touch()
    (image,) = home.glob("root/boot/vmlinuz-*")
    release = image.name.removeprefix("vmlinuz-")
    (modules,) = (path for path in (home / "root/lib/modules", home / "root/usr/lib/modules") if path.is_dir())
    (busybox,) = (path for path in (home / "root/bin/busybox", home / "root/usr/bin/busybox") if path.is_file())
    return Kernel(name, arch, release, image, modules / release, busybox)


def _fetch(home: Path, suite: str, arch: str) -> None:
    apt = _apt(home / "apt", suite, arch)
    # The metapackage names the newest kernel of the suite; the cloud one is a third of the size and has all we need.
    said = _run("apt-cache", *apt, "show", "--no-all-versions", f"linux-image-cloud-{arch}")
    image = re.search(r"^Depends: (linux-image-\S+)", said, re.MULTILINE)
    if image is None:
        raise UnavailableError(f"{suite} has no kernel for {arch}")
    _run("apt-get", *apt, "download", "-qq", image[1], "busybox-static", cwd=home)
    for package in home.glob("*.deb"):
        _run("dpkg-deb", "-x", str(package), str(home / "root"))
        package.unlink()
    shutil.rmtree(home / "apt")


def _apt(home: Path, suite: str, arch: str) -> list[str]:
    """The options that make apt work for `suite` and `arch` in `home`, its lists fetched."""
    for folder in ("lists/partial", "cache/archives/partial", "parts"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    (home / "status").touch()
    source = f"deb [signed-by={KEYS} arch={arch}] {_mirror()} {suite} main\n"
    (home / "sources.list").write_text(source)
    settings = {
        "Dir::Etc::SourceList": home / "sources.list",
        "Dir::Etc::SourceParts": home / "parts",
        "Dir::Etc::PreferencesParts": home / "parts",
        "Dir::State::Lists": home / "lists",
        "Dir::State::Status": home / "status",
        "Dir::Cache": home / "cache",
        "APT::Architecture": arch,
        "APT::Architectures": arch,
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
    }
    options = [f"-o{key}={value}" for key, value in settings.items()]
    _run("apt-get", *options, "update", "-qq", "--error-on=any")
    return options


def _mirror() -> str:
    """Where this machine gets Debian from."""
    targets = _run("apt-get", "indextargets", "--format", "$(REPO_URI) $(LABEL)", "Created-By: Packages")
    for line in targets.splitlines():
        address, _, label = line.partition(" ")
        if label == "Debian":
            return address
    raise UnavailableError(
        "this machine has no Debian mirror among its package sources (or `apt-get update` never ran)"
    )


def _run(*command: str, cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"{command[0]}: {error}") from error
    if done.returncode:
        # An error's lines may name the mirror, which is nobody's business in a report.
        words = re.sub(r"https?://\S+", "…", done.stderr.strip())
        raise UnavailableError(f"{command[0]} exited with {done.returncode}: {words[-300:]}")
    return done.stdout
