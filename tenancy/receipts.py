"""Receipts: what an erasure deleted, as canonical JSON with an Ed25519 signature that anybody can verify.

`openssl pkeyutl -verify -pubin -inkey KEY.pem -rawin -in RECEIPT.json -sigfile RECEIPT.json.sig`
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any, Final

import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from kaimon.base.secrets import resolved
from kaimon.base.settings import AwsSettings
from tenancy.audit_heads import signing_key
from tenancy.erasures import Erasure
from tenancy.keys import UnusableKeyError
from tenancy.settings import TenancySettings

FOLDER: Final = "receipts"
VERSION: Final = 1


def receipt_key(settings: TenancySettings) -> Ed25519PrivateKey:
    """Return the key that signs receipts: of `receipt_key` if that is set, else of the key file, made on first use.

    Raises:
        UnusableKeyError: it is no Ed25519 key, or the key file cannot be trusted.
        kaimon.base.aws.AwsError: it is a reference to a secret that cannot be read.
    """
    if settings.receipt_key is None:
        return signing_key(settings.receipt_key_path)
    text = resolved(settings.receipt_key, AwsSettings(home=settings.home))
    try:
        key = load_pem_private_key(text.encode(), None)
    except (ValueError, TypeError):
        # Not chained: the loader's error may show what it read.
        raise UnusableKeyError("KAIMON_RECEIPT_KEY is no PEM of a private key without a password") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise UnusableKeyError("KAIMON_RECEIPT_KEY is not an Ed25519 key")
    return key


def known_public_key(settings: TenancySettings) -> Ed25519PublicKey | None:
    """Return the key that verifies receipts as far as this process can know it: a key file is not made for it.

    Raises:
        UnusableKeyError: as `receipt_key`.
        kaimon.base.aws.AwsError: as there.
    """
    if settings.receipt_key is None and not settings.receipt_key_path.exists():
        return None
    return receipt_key(settings).public_key()


def fingerprint(public: Ed25519PublicKey) -> str:
    """Return the SHA-256, in hex, of a public key's DER: what a receipt names as `signed_by`."""
    return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def public_pem(key: Ed25519PublicKey) -> str:
    """Return a public key as PEM."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def object_key(tenant_id: str, erasure_id: str) -> str:
    """Return where a receipt lies in the audit store; its signature, 64 bytes, lies beside it, at `….sig`."""
    return f"{FOLDER}/{tenant_id}/{erasure_id}.json"


def compose(erasure: Erasure, found: dict[str, Any], public: Ed25519PublicKey, finished_at: datetime) -> bytes:
    """Return a receipt: canonical JSON (RFC 8785).

    `erased` says by kind what there was and is no more; `kept` what stays and why. Every moment is UTC. `signed_by` is
    the SHA-256, in hex, of the public key's DER.
    """
    return rfc8785.dumps(
        {
            "v": VERSION,
            "kind": "erasure",
            "erasure": erasure.erasure_id,
            "tenant": erasure.tenant_id,
            "reason": erasure.reason,
            "begun_by": erasure.begun_by,
            "begun_at": erasure.begun_at.isoformat(timespec="microseconds"),
            "finished_at": finished_at.isoformat(timespec="microseconds"),
            "erased": found,
            "kept": {
                "audit": "the tenant's audit chain and its signed heads: ids, counts and times of what was done",
                "access": "the access log, for as long as that is kept: ids, counts and times of who read what",
                "runs": "in the pipelines' run records, the tenant's id and counts of rows by day",
            },
            "signed_by": fingerprint(public),
        }
    )
