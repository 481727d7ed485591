"""The key file: 32 random bytes, made once, readable by their owner only."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Final

KEY_BYTES: Final = 32


class UnusableKeyError(Exception):
    """A key cannot be had or does not fit; the text says why and never what it is."""


class KeysAwayError(UnusableKeyError):
    """Whoever keeps the keys does not answer; they may later."""


class KeyFileError(UnusableKeyError):
    """The key file cannot be trusted; the text says why and never what is in it."""


def load_key(path: Path) -> bytes:
    """Return the key in `path`.

    Raises:
        KeyFileError: not there, wrong size, or others than the owner may read it.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}") from error
    with file:
        mode = os.fstat(file.fileno()).st_mode
        key = file.read(KEY_BYTES + 1)
    if mode & 0o077:
        raise KeyFileError(f"{path} is open to others (mode {mode & 0o777:04o}); want 0600")
    if len(key) != KEY_BYTES:
        raise KeyFileError(f"{path} does not hold {KEY_BYTES} bytes")
    return key


def print_of(key: bytes) -> str:
    """Return what tells one key from another and gives neither away, in hex."""
    return hmac.new(key, b"kaimon key print", hashlib.sha256).hexdigest()


def ensure_key(path: Path) -> None:
    """Make a key if there is none; processes that race to make it end up with the same one.

    It is written under a name of its own and then linked into place: nobody ever reads half a key.
    """
    if path.exists():
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
