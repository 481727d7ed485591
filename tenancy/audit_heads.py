"""Signed heads: how far each chain went at a moment, signed, for a store in which nothing can be written twice.

The database alone cannot prove that its newest records are still there; a head that lies elsewhere can.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tenancy.audit import Head
from tenancy.keys import ensure_key, load_key

FOLDER: Final = "heads"


@dataclass(frozen=True)
class SignedHead:
    """A head, when it was signed (aware, UTC), and where the object lies in the audit store."""

    head: Head
    signed_at: datetime
    key: str


class BadHeadError(Exception):
    """An object of the audit store is no head that we signed."""


def signing_key(path: Path) -> Ed25519PrivateKey:
    """Return the key that signs heads, made on first use (32 bytes, mode 0600).

    Raises:
        tenancy.keys.KeyFileError: the file cannot be trusted.
    """
    ensure_key(path)
    return Ed25519PrivateKey.from_private_bytes(load_key(path))


def object_key(head: Head) -> str:
    """Return where a head's object lies: in the order of their numbers, one object a number."""
    return f"{FOLDER}/{head.chain}/{head.seq:012d}.json"


def sign(head: Head, key: Ed25519PrivateKey, signed_at: datetime) -> bytes:
    """Return the object: canonical JSON of the head and an Ed25519 signature over the head's canonical JSON."""
    said: dict[str, Any] = {
        "chain": head.chain,
        "seq": head.seq,
        "digest": head.digest,
        "signed_at": signed_at.isoformat(),
    }
    signature = key.sign(rfc8785.dumps(said))
    return rfc8785.dumps({"head": said, "signature": base64.b64encode(signature).decode()})


def read_head(key: str, data: bytes, public: Ed25519PublicKey) -> SignedHead:
    """Return the head that an object of the audit store holds.

    Raises:
        BadHeadError: the signature is not ours, or the object lies where another belongs.
    """
    try:
        found: dict[str, Any] = json.loads(data)
        said = found["head"]
        public.verify(base64.b64decode(found["signature"], validate=True), rfc8785.dumps(said))
        head = Head(said["chain"], said["seq"], said["digest"])
        signed = SignedHead(head, datetime.fromisoformat(said["signed_at"]), key)
    except (ValueError, KeyError, TypeError, InvalidSignature) as error:
        raise BadHeadError(f"{key}: not signed by this key, or not whole") from error
    if object_key(head) != key:
        raise BadHeadError(f"{key}: holds the head of {object_key(head)}")
    return signed
