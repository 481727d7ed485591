"""The two places that data keys come from and are unwrapped in: a key file of this machine, and AWS KMS."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import rfc8785
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from kaimon.base.aws import AwsAwayError, AwsError, aws_client, calling
from kaimon.base.regions import RegionError, require_us_region
from kaimon.base.settings import AwsSettings
from tenancy.keys import KEY_BYTES, KeysAwayError, UnusableKeyError, ensure_key, load_key
from tenancy.settings import TenancySettings

FILE: Final = "file"
NONCE_BYTES: Final = 12
Context = dict[str, str]


@dataclass(frozen=True)
class Wrapped:
    """A data key as it is stored: `by` is `file` or the ARN of a KMS key."""

    by: str
    blob: bytes


def generate(settings: TenancySettings, context: Context, *, new_file: bool) -> tuple[bytes, Wrapped]:
    """Return a new data key and its wrapped form, from KMS if `kms_key_id` is set, else from the key file.

    Args:
        settings: of the control plane.
        context: what the wrapped form is bound to; KMS writes it into its own trail.
        new_file: the key file may be made: nothing depends on the one that should be there.

    Raises:
        KeysAwayError: KMS does not answer.
        UnusableKeyError: KMS says no; the key file cannot be trusted.
    """
    if settings.kms_key_id is None:
        if new_file:
            ensure_key(settings.token_key_path)
        plain = secrets.token_bytes(KEY_BYTES)
        return plain, Wrapped(FILE, encrypt(_file_root(settings), plain, context))
    what = f"a new data key from KMS key {settings.kms_key_id}"
    with kms_client(settings, what) as client:
        made = client.generate_data_key(KeyId=settings.kms_key_id, KeySpec="AES_256", EncryptionContext=context)
    check_place(made["KeyId"], settings)
    return made["Plaintext"], Wrapped(made["KeyId"], made["CiphertextBlob"])


def unwrap(settings: TenancySettings, wrapped: Wrapped, context: Context) -> bytes:
    """Return the data key that was wrapped in this context.

    Raises:
        KeysAwayError: KMS does not answer.
        UnusableKeyError: the key, the wrapped form or the context is another.
    """
    if wrapped.by == FILE:
        try:
            return decrypt(_file_root(settings), wrapped.blob, context)
        except InvalidTag as error:
            path = settings.token_key_path
            raise UnusableKeyError(f"{path} is not the key that this database's data keys were made with") from error
    check_place(wrapped.by, settings)
    with kms_client(settings, f"data key {context.get('kaimon:key')} by KMS key {wrapped.by}") as client:
        # The key by name: a ciphertext under another one, which somebody else controls, is refused.
        got = client.decrypt(CiphertextBlob=wrapped.blob, KeyId=wrapped.by, EncryptionContext=context)
    plain: bytes = got["Plaintext"]
    if len(plain) != KEY_BYTES:
        raise UnusableKeyError(f"KMS gave a data key of {len(plain)} bytes, want {KEY_BYTES}")
    return plain


def encrypt(key: bytes, plain: bytes, context: Context) -> bytes:
    """Return a nonce and AES-256-GCM's ciphertext, bound to `context`."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, rfc8785.dumps(dict(context)))


def decrypt(key: bytes, blob: bytes, context: Context) -> bytes:
    """Return what `encrypt` was given.

    Raises:
        cryptography.exceptions.InvalidTag: another key, another context, or other bytes.
    """
    if len(blob) <= NONCE_BYTES:
        raise InvalidTag
    return AESGCM(key).decrypt(blob[:NONCE_BYTES], blob[NONCE_BYTES:], rfc8785.dumps(dict(context)))


def _file_root(settings: TenancySettings) -> bytes:
    """Return the key that wraps, which is not the file's own bytes: an older kaimon indexed tokens with those."""
    derive = HKDF(hashes.SHA256(), KEY_BYTES, salt=None, info=b"kaimon: wrap data keys, 1")
    return derive.derive(load_key(settings.token_key_path))


@contextmanager
def kms_client(settings: TenancySettings, what: str) -> Iterator[Any]:
    try:
        aws = AwsSettings(home=settings.home)
        client = aws_client("kms", aws)
    except (AwsError, ValueError) as error:
        raise UnusableKeyError(f"{what}: {error}") from error
    try:
        with calling(f"{what} in {aws.aws_region}"):
            yield client
    except AwsAwayError as error:
        raise KeysAwayError(str(error)) from error
    except AwsError as error:
        raise UnusableKeyError(str(error)) from error


def check_place(arn: str, settings: TenancySettings) -> None:
    """Refuse a KMS key that lies elsewhere, whatever a row of the database or an answer says."""
    parts = arn.split(":")
    region = parts[3] if len(parts) > 5 and parts[0] == "arn" and parts[2] == "kms" else None
    try:
        require_us_region(region)
    except RegionError as error:
        raise UnusableKeyError(f"KMS key {arn}: {error}") from error
    configured = AwsSettings(home=settings.home).aws_region
    if region != configured:
        raise UnusableKeyError(f"KMS key {arn} is not in KAIMON_AWS_REGION, which is {configured or 'not set'}")
