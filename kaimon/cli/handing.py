"""Hands out a secret that is shown once: on stdout, or in a new file that only its owner reads."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Record = TypeVar("Record")


def hand_out(out: Path | None, make: Callable[[], tuple[Record, str]], told: Callable[[Record], str]) -> None:
    """Make a secret and hand it out.

    Args:
        out: where to; stdout if None.
        make: returns what is kept of it, and the secret.
        told: what to call it where it is not shown itself.

    Raises:
        ValueError: the file exists or cannot be made; nothing was made then.
    """
    # The file first: a secret that nobody could ever read must not be made.
    file = None if out is None else new_private_file(out)
    try:
        record, secret = make()
    except BaseException:
        if file is not None and out is not None:
            os.close(file)
            out.unlink()
        raise
    if file is None:
        print(secret)
        return
    with os.fdopen(file, "w") as stream:
        stream.write(secret + "\n")
    print(f"{told(record)} written to {out}")


def new_private_file(path: Path) -> int:
    """Make a file that only its owner may read, and return its descriptor.

    Raises:
        ValueError: it is there already, or cannot be made.
    """
    try:
        return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ValueError(f"cannot make {path}: {error.strerror}") from error
