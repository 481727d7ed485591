"""Where a store lies in S3, whose an object is, and with what it is encrypted."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from kaimon.base.aws import key_alias
from lake.settings import LakeSettings

OF_TENANTS: Final = frozenset({"staging", "lake", "outbox"})
"""Places whose first folders are tenants."""

_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True)
class Bucket:
    """A bucket and the folder in it that a URL names; `prefix` is empty or ends in a slash."""

    name: str
    prefix: str

    def key(self, path: str) -> str:
        """Return the object's key of what is called `path` below the folder."""
        return f"{self.prefix}{path}"


def bucket_of(url: str) -> Bucket | None:
    """Return where an `s3://bucket/prefix` URL leads, None if it is another kind of URL.

    Raises:
        ValueError: it names no bucket, or says more than a folder.
    """
    parts = urlsplit(url)
    if parts.scheme != "s3":
        return None
    if not _BUCKET.fullmatch(parts.netloc) or parts.query or parts.fragment:
        raise ValueError(f"a store's URL in S3 is s3://bucket/prefix, not {url!r}")
    prefix = unquote(parts.path).strip("/")
    return Bucket(parts.netloc, f"{prefix}/" if prefix else "")


def tenant_of(store: str, key: str) -> str | None:
    """Return whose object a key of a store is, None if it is no tenant's."""
    return key.partition("/")[0] or None if store in OF_TENANTS and "/" in key else None


def encryption(tenant: str | None, settings: LakeSettings) -> dict[str, str]:
    """Return what a request says of how an object is to be encrypted; nothing leaves it to the bucket."""
    if tenant is None or settings.s3_encryption == "bucket":
        return {}
    return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key_alias(tenant)}
