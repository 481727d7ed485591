"""Makes marked file activity of every kind and keeps its own log of what it did: the demo's ground truth.

Run as a process of its own: `python -m kaimon.local.generator LOG MARKER FOLDER...`. Each line of LOG is one event
that a sensor must report exactly once, in the words of the events table.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
from pathlib import Path
from typing import TextIO

from kaimon.base.escape import escape


class Generator:
    """File activity in one folder; `say` is called for each event after it happened."""

    def __init__(self, folder: bytes, log: TextIO) -> None:
        """Work below `folder`, which must exist; write one JSON object an event to `log`."""
        self._folder = folder
        self._log = log

    def say(self, operation: str, path: bytes, target: bytes | None = None) -> None:
        line = {
            "operation": operation,
            "path": escape(path),
            "target_path": None if target is None else escape(target),
            "pid": os.getpid(),
            "uid": os.getuid(),
        }
        self._log.write(json.dumps(line, ensure_ascii=False) + "\n")

    def create(self, path: bytes, *contents: bytes) -> None:
        """Make a file by open(O_CREAT) and write each of `contents` with a call of its own."""
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640)
        self.say("create", path)
        for content in contents:
            os.write(descriptor, content)
            self.say("write", path)
        os.close(descriptor)

    def life(self, name: bytes) -> None:
        """Take one file through every operation, from its making to its deletion."""
        first, second = self._folder + b"/in", self._folder + b"/out"
        old, new = first + b"/" + name, second + b"/" + name + b".moved"
        for folder in (first, second):
            os.mkdir(folder)
            self.say("create", folder)
        self.create(old, b"one", b"two")
        os.close(os.open(old, os.O_RDONLY))
        self.say("open", old)
        os.chmod(old, 0o600)
        self.say("chmod", old)
        os.rename(old, new)
        self.say("rename", old, new)
        self.more(new)
        os.unlink(new)
        self.say("delete", new)
        for folder in (first, second):
            os.rmdir(folder)
            self.say("delete", folder)

    def more(self, path: bytes) -> None:
        """Do the rarer things to the file at `path`."""
        os.link(path, path + b".hard")
        self.say("link", path, path + b".hard")
        os.symlink(path, path + b".soft")
        self.say("symlink", path + b".soft", path)
        os.truncate(path, 4096)
        self.say("truncate", path)
        os.chown(path, os.getuid(), os.getgid())
        self.say("chown", path)
        descriptor = os.open(path, os.O_RDWR)
        self.say("open", path)
        with mmap.mmap(descriptor, 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE) as memory:
            memory[:5] = b"three"
        self.say("mmap_write", path)
        os.close(descriptor)
        for name in (b".hard", b".soft"):
            os.unlink(path + name)
            self.say("delete", path + name)


NAMES = (
    b"plain",
    b"with space",
    b"new\nline",
    b"not-utf8-\xff\xfe",
    "naïve-文件".encode(),
    b"back\\slash",
    b"\x1b[31mred",
)


def main() -> None:
    """Do the activity in each folder and log it."""
    log_path, marker, *folders = sys.argv[1:]
    with Path(log_path).open("w", encoding="utf-8", buffering=1) as log:
        for folder in folders:
            base = f"{folder}/{marker}".encode()
            os.mkdir(base)
            generator = Generator(base, log)
            generator.say("create", base)
            for name in NAMES:
                generator.life(name)
            os.rmdir(base)
            generator.say("delete", base)


if __name__ == "__main__":
    main()
