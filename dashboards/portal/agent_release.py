"""The agent's release that a portal hands out: what its signed list names, as it was signed, and no other file."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

LIST: Final = "SHA256SUMS"
KEY: Final = "kaimon-release.pub"
_LINE: Final = re.compile(r"([0-9a-f]{64}) [ *]([A-Za-z0-9][A-Za-z0-9._~+-]{0,199})")
_PROGRAM: Final = re.compile(r"kaimon-agent-(.+)-linux-[a-z0-9]+")
_MOST_BYTES: Final = 64 * 1024 * 1024
_SIGNATURE_BYTES: Final = 64


class UnusableReleaseError(ValueError):
    """What lies in the folder is not a release as it was signed."""


@dataclass(frozen=True)
class ReleaseFile:
    """A file of a release: its size in bytes, and its SHA-256 in hex as the signed list says."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Release:
    """A release whose list is signed; `fingerprint` is the SHA-256, in hex, of the DER of the key that signed it."""

    folder: Path
    version: str
    fingerprint: str
    files: tuple[ReleaseFile, ...]

    def read(self, name: str) -> bytes | None:
        """Return a file of the release, its list, or a signature (`….sig`); None for every other name.

        Names are looked up, never joined to a path as they come.

        Raises:
            UnusableReleaseError: it is not there, or not what was signed.
        """
        known = {one.name: one for one in self.files}
        signed = name.removesuffix(".sig")
        if signed != LIST and signed not in known:
            return None
        if name != signed:
            body = _read(self.folder / f"{signed}.sig", _SIGNATURE_BYTES)
            if len(body) != _SIGNATURE_BYTES:
                raise UnusableReleaseError(f"{signed}.sig is no Ed25519 signature")
            return body
        body = _read(self.folder / signed)
        if signed != LIST and hashlib.sha256(body).hexdigest() != known[signed].sha256:
            raise UnusableReleaseError(f"{signed} is not what {LIST} names")
        return body


def release_in(folder: Path) -> Release:
    """Return the release that `script/package-agent` put into a folder.

    Raises:
        UnusableReleaseError: it is not whole, or its list is not signed by the key beside it.
    """
    body = _read(folder / LIST)
    try:
        key = load_pem_public_key(_read(folder / KEY))
    except ValueError as error:
        raise UnusableReleaseError(f"{KEY}: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise UnusableReleaseError(f"{KEY} is no Ed25519 key")
    try:
        key.verify(_read(folder / f"{LIST}.sig"), body)
    except InvalidSignature as error:
        raise UnusableReleaseError(f"{LIST} is not signed by {KEY}") from error
    lines = [_LINE.fullmatch(line) for line in body.decode("ascii", "replace").splitlines()]
    files = tuple(ReleaseFile(line[2], _size(folder / line[2]), line[1]) for line in lines if line is not None)
    versions = {found[1] for one in files if (found := _PROGRAM.fullmatch(one.name)) if not one.name.endswith(".json")}
    if len(files) != len(lines) or len(versions) != 1:
        raise UnusableReleaseError(f"{LIST} is no list of one release")
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Release(folder, versions.pop(), hashlib.sha256(der).hexdigest(), files)


def _read(path: Path, most: int = _MOST_BYTES) -> bytes:
    try:
        with path.open("rb") as file:
            body = file.read(most + 1)
    except OSError as error:
        raise UnusableReleaseError(f"{path.name}: {error.strerror}") from error
    if len(body) > most:
        raise UnusableReleaseError(f"{path.name} has more than {most} bytes")
    return body


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise UnusableReleaseError(f"{path.name}: {error.strerror}") from error
