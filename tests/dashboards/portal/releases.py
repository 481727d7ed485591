"""A small release of the agent, signed as `script/package-agent` signs."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

PROGRAM = "kaimon-agent-1.2.3-linux-amd64"


def make_release(folder: Path) -> Path:
    """Write a release into a new folder; beside it lies a secret that nobody may read through it."""
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    files = {PROGRAM: b"\x7fELF the program\r\n\0", "install.sh": b"#!/bin/sh\n", "kaimon-release.pub": public}
    files["SHA256SUMS"] = "".join(
        f"{hashlib.sha256(body).hexdigest()}  {name}\n" for name, body in files.items()
    ).encode()
    folder.mkdir()
    (folder.parent / "secret").write_text("never this")
    for name, body in files.items():
        (folder / name).write_bytes(body)
        (folder / f"{name}.sig").write_bytes(key.sign(body))
    (folder / "notes").write_text("never this")
    return folder
