"""The outbox: a folder where each revision of each summary lies as HTML, text and PDF."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def reference(tenant: str, period: str, period_start: str, revision: int) -> str:
    """Return where a revision lies, relative to the outbox."""
    return f"{tenant}/{period}/{period_start}-r{revision}.html"


def put(outbox: Path, name: str, body: bytes) -> str:
    """Write a file durably, all or nothing, readable by its owner only; return its SHA-256 in hex.

    Writing the same again changes nothing, so a delivery that was killed is simply done again.
    """
    target = outbox / name
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        descriptor = os.open(partial, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return hashlib.sha256(body).hexdigest()
