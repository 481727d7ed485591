"""Lines of logs that speak of a tenant: blanked where they stand, for whoever writes the file keeps it open."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

_SUFFIXES: Final = {".log", ".out", ".err"}


def log_files(home: Path) -> Iterator[Path]:
    """Yield the logs of this machine's processes and what the pipelines' runs wrote, in order."""
    dagster = Path(os.environ.get("DAGSTER_HOME") or home / "dagster")
    for folder in (home / "logs", dagster / "storage", dagster / "logs"):
        yield from sorted(path for path in folder.rglob("*") if path.suffix in _SUFFIXES and path.is_file())


def blank_lines(files: Iterable[Path], tenant: str) -> int:
    """Overwrite each line that names a tenant in a field of its own with spaces, durably; return how many.

    In place and to the same length, so that a writer who appends meanwhile is not disturbed.

    Raises:
        OSError: a file cannot be written.
    """
    names = naming(tenant)
    return sum(_blank(path, names) for path in files)


def naming(tenant: str) -> re.Pattern[bytes]:
    """Return what a line that names a tenant in a field of its own has in it."""
    return re.compile(rb'"tenant(?:_id)?": ?"' + re.escape(tenant.encode()) + rb'"')


def blanked(body: bytes, names: re.Pattern[bytes]) -> tuple[bytes, int]:
    """Return a log with each line that `names` finds overwritten with spaces, and how many they were."""
    lines = body.splitlines(keepends=True)
    found = [bool(names.search(line)) for line in lines]
    blank = (b" " * len(line.rstrip(b"\n")) + line[len(line.rstrip(b"\n")) :] for line in lines)
    return b"".join(new if hit else old for old, new, hit in zip(lines, blank, found, strict=True)), sum(found)


def _blank(path: Path, names: re.Pattern[bytes]) -> int:
    blanked = 0
    try:
        file = path.open("r+b")
    except FileNotFoundError:
        return 0
    with file:
        place = 0
        for line in file:
            if names.search(line):
                text = line.rstrip(b"\n")
                os.pwrite(file.fileno(), b" " * len(text), place)
                blanked += 1
            place += len(line)
        if blanked:
            os.fsync(file.fileno())
    return blanked
