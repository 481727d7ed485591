"""What `kaimon doctor` looks at in the machine: encryption below the data, swap, core dumps, room, clock."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from kaimon.base.clock import Clock, utc_now
from kaimon.cli.doctor.finding import Finding, fail, ok, warn

_GIB: Final = 1 << 30
_ENCRYPTED_TYPES: Final = frozenset({"ecryptfs", "fuse.gocryptfs", "fuse.cryfs", "fuse.encfs"})
_MEMORY_TYPES: Final = frozenset({"tmpfs", "ramfs"})
_BUILT: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""No clock that is right says that it is earlier."""
_TIME_ERROR: Final = 5


def volumes(folders: dict[str, Path], root: Path = Path("/")) -> Iterator[Finding]:
    """Say for each local folder whether an encrypted volume (dm-crypt, by its device) lies below it.

    Args:
        folders: by what they hold; one that is not there yet is judged by the nearest that is.
        root: where `proc` and `sys` are.
    """
    for name, folder in folders.items():
        about = f"volume of {name}"
        there = existing(folder)
        encrypted, why = encryption(there, root)
        if encrypted is None:
            yield warn(about, f"cannot tell whether {there} is encrypted: {why}; make sure that it is")
        elif encrypted:
            yield ok(about, f"{there} is encrypted ({why})")
        else:
            yield warn(about, f"{there} is not encrypted ({why}); put it on a dm-crypt (LUKS) volume")


def encryption(path: Path, root: Path) -> tuple[bool | None, str]:
    """Return whether what lies below a path is encrypted, None where that cannot be told, and how it is known."""
    kind, source = _mount(path, root)
    if kind in _ENCRYPTED_TYPES:
        return True, f"file system {kind}"
    if kind in _MEMORY_TYPES:
        return None, f"file system {kind} lies in memory, and in swap if there is any"
    number = path.stat().st_dev
    device = root / "sys/dev/block" / f"{os.major(number)}:{os.minor(number)}"
    if not device.exists():
        # Some file systems (btrfs, overlay) have numbers of their own: ask for what they are mounted from.
        device = root / "sys/class/block" / Path(source).name if source.startswith("/dev/") else device
    if not device.exists():
        return None, f"file system {kind} tells no block device"
    return _encrypted(device.resolve(), root)


def _encrypted(device: Path, root: Path) -> tuple[bool | None, str]:
    """Return whether a block device, or all that it is made of, is dm-crypt."""
    mapped = device / "dm" / "uuid"
    if mapped.exists() and mapped.read_text().startswith("CRYPT-"):
        return True, f"dm-crypt {(device / 'dm' / 'name').read_text().strip()}"
    below = sorted((device / "slaves").iterdir()) if (device / "slaves").is_dir() else []
    if not below:
        virtual = device.name.startswith(("vd", "xvd", "nvme"))
        note = ", as far as this machine knows: a cloud's disk may be, below it" if virtual else ""
        return False, f"block device {device.name}{note}"
    parts = [_encrypted(part.resolve(), root) for part in below]
    plain = [why for encrypted, why in parts if not encrypted]
    return (False, plain[0]) if plain else (True, parts[0][1])


def _mount(path: Path, root: Path) -> tuple[str, str]:
    """Return the type and the source of the file system that a path lies on."""
    best, found = "", ("unknown", "")
    real = str(path.resolve())
    for line in (root / "proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        point = left.split()[4].replace("\\040", " ")
        below = real == point or real.startswith(point.rstrip("/") + "/")
        if below and len(point) >= len(best):
            kind, source = right.split()[:2]
            best, found = point, (kind, source)
    return found


def swap(root: Path = Path("/")) -> Iterator[Finding]:
    """Say whether memory, which holds events and keys, may be written to a disk as it is."""
    lines = (root / "proc/swaps").read_text().splitlines()[1:]
    plain = []
    for line in lines:
        name = Path(line.split()[0]).name
        device = root / "sys/class/block" / name
        if name.startswith("zram"):
            continue
        if device.exists() and _encrypted(device.resolve(), root)[0]:
            continue
        plain.append(line.split()[0])
    if plain:
        yield warn("swap", f"{', '.join(plain)} may hold events and keys in the clear; encrypt it or swapoff")
    else:
        yield ok("swap", "none that is not encrypted" if lines else "none")


def core_dumps(root: Path = Path("/")) -> Iterator[Finding]:
    """Say whether a process that dies leaves its memory behind."""
    pattern = (root / "proc/sys/kernel/core_pattern").read_text().strip()
    soft, _ = resource.getrlimit(resource.RLIMIT_CORE)
    if pattern.startswith("|"):
        program = pattern[1:].split()[0]
        yield warn("core dumps", f"handed to {program}, which may keep memory with events and keys; switch it off")
    elif soft != 0:
        yield warn("core dumps", "a process started from here would leave its memory in a file: ulimit -c 0")
    else:
        yield ok("core dumps", "off for what is started from here")


def room(folders: dict[str, Path]) -> Iterator[Finding]:
    """Say how much room is left where data goes: bytes and files."""
    for name, folder in folders.items():
        there = existing(folder)
        usage, files = shutil.disk_usage(there), os.statvfs(there)
        share = usage.free / usage.total if usage.total else 0.0
        inodes = files.f_favail / files.f_files if files.f_files else 1.0
        about, said = f"room for {name}", f"{usage.free / _GIB:.1f} GiB free ({share:.0%}) at {there}"
        if usage.free < _GIB or share < 0.02 or inodes < 0.02:
            yield fail(about, f"{said}, {inodes:.0%} of its files: ingest will refuse batches when it is full")
        elif share < 0.1 or inodes < 0.1:
            yield warn(about, f"{said}, {inodes:.0%} of its files: make room")
        else:
            yield ok(about, said)


def clock(now: Clock = utc_now, synchronized: bool | None = None) -> Iterator[Finding]:
    """Say whether the clock can be right; events are judged by it when they arrive."""
    moment = now()
    if moment < _BUILT:
        yield fail("clock", f"says {moment:%Y-%m-%d}, which is before this program was made; set it")
        return
    if synchronized is None:
        synchronized = _synchronized()
    if synchronized:
        yield ok("clock", f"{moment:%Y-%m-%dT%H:%M:%SZ}, kept right by the kernel")
    else:
        yield warn(
            "clock", f"{moment:%Y-%m-%dT%H:%M:%SZ}, but nothing keeps it right as far as the kernel knows; run chrony"
        )


def _synchronized() -> bool:
    """Ask the kernel whether a time service keeps the clock right."""
    # struct timex is larger than what we ask of it; all zero means: only tell.
    asked = (ctypes.c_byte * 512)()
    state: int = ctypes.CDLL(None, use_errno=True).adjtimex(asked)
    return 0 <= state < _TIME_ERROR


def existing(path: Path) -> Path:
    """Return a path, or the nearest folder above it that is there."""
    while not path.exists():
        path = path.parent
    return path
