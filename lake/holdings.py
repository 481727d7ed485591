"""What a store holds below a folder, all of it, and how it is made to hold nothing: for erasure and retention.

`lake.stores` shows objects as their readers may see them. Here is everything: files that were never finished, and in S3
the versions that a newer one or a delete marker hides, and uploads that nobody completed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import unquote, urlsplit

from kaimon.base.aws import AwsError, aws_client, calling
from lake.durable import sync_folder
from lake.reporting import ReportingHoldings
from lake.stores import StoreError, local_folder

_AT_ONCE: Final = 1000
"""Objects that S3 deletes in one call."""
_ROUNDS: Final = 20
"""How often a folder is emptied again that somebody keeps filling."""


@dataclass(frozen=True)
class Held:
    """One object: its key below the store's root, bytes, when it was put (aware, UTC), and in S3 which version."""

    key: str
    size: int
    modified: datetime
    version: str | None = None


@dataclass(frozen=True)
class Holding:
    """How much there is: objects (S3: versions and markers), bytes, and what tells this set from another.

    `digest` is the SHA-256, in hex, of a line `key size` (S3: `key size version`) an object, in the order of the keys.
    """

    objects: int
    bytes: int
    digest: str


class Holdings(Protocol):
    """All that a store holds. A folder is `name` or `name/name`, never the root."""

    def held(self, folder: str) -> Iterator[Held]:
        """Yield everything below a folder in the order of the keys.

        Raises:
            StoreError: the store cannot be asked.
        """
        ...

    def folders(self, folder: str = "") -> list[str]:
        """Return the names of the folders directly in a folder, or in the root."""
        ...

    def erase(self, folder: str) -> None:
        """Delete everything below a folder, for good; what somebody puts there meanwhile, too.

        Raises:
            StoreError: something is left; calling again goes on.
        """
        ...

    def delete(self, held: Iterable[Held]) -> None:
        """Delete these, each in its version; one that is not there is no error.

        Raises:
            StoreError: some may be left.
        """
        ...


def holdings(url: str, name: str) -> Holdings:
    """Return what holds a store of this URL: `file:///…` or `s3://bucket/prefix`; the access log calls it `name`.

    Raises:
        ValueError: it is another kind of URL.
        kaimon.base.aws.AwsError: AWS cannot be asked.
    """
    parts = urlsplit(url)
    if parts.scheme == "s3":
        return ReportingHoldings(name, S3Holdings(parts.netloc, unquote(parts.path).strip("/")))
    return ReportingHoldings(name, LocalHoldings(local_folder(url)))


def measure(held: Iterable[Held]) -> Holding:
    """Count objects and bytes, in the order in which they come."""
    objects, size, digest = 0, 0, hashlib.sha256()
    for one in held:
        objects += 1
        size += one.size
        version = "" if one.version is None else f" {one.version}"
        digest.update(f"{one.key} {one.size}{version}\n".encode("utf-8", "surrogateescape"))
    return Holding(objects, size, digest.hexdigest())


class LocalHoldings:
    """A folder of this machine, with every file in it whatever its name."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def held(self, folder: str) -> Iterator[Held]:
        """See `Holdings`."""
        try:
            yield from self._walk(folder)
        except OSError as error:
            raise StoreError(f"list {folder}: {error}") from error

    def folders(self, folder: str = "") -> list[str]:
        """See `Holdings`."""
        try:
            return [entry.name for entry in _entries(self.root / folder) if entry.is_dir(follow_symlinks=False)]
        except OSError as error:
            raise StoreError(f"list {folder}: {error}") from error

    def erase(self, folder: str) -> None:
        """See `Holdings`."""
        top = _inside(self.root, folder)
        for _ in range(_ROUNDS):
            try:
                _remove(top)
                if top.parent.is_dir():
                    sync_folder(top.parent)
            except OSError as error:
                raise StoreError(f"erase {folder}: {error}") from error
            if not top.exists():
                return
        raise StoreError(f"erase {folder}: somebody keeps writing to it")

    def delete(self, held: Iterable[Held]) -> None:
        """See `Holdings`."""
        changed: set[Path] = set()
        try:
            for one in held:
                path = _inside(self.root, one.key)
                with suppress(FileNotFoundError):
                    path.unlink()
                    changed.add(path.parent)
            for folder in changed:
                sync_folder(folder)
        except OSError as error:
            raise StoreError(f"delete: {error}") from error

    def _walk(self, folder: str) -> Iterator[Held]:
        for entry in _entries(self.root / folder):
            key = f"{folder}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(key)
                continue
            with suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                size = status.st_size if stat.S_ISREG(status.st_mode) else 0
                yield Held(key, size, datetime.fromtimestamp(status.st_mtime, UTC))


class S3Holdings:
    """A prefix of a bucket, with every version of every object."""

    def __init__(self, bucket: str, prefix: str, client: Any = None) -> None:
        self.bucket = bucket
        self.prefix = f"{prefix}/" if prefix else ""
        self._client = client if client is not None else aws_client("s3")

    def held(self, folder: str) -> Iterator[Held]:
        """See `Holdings`; delete markers are objects of no bytes."""
        where = f"{self.prefix}{_checked(folder)}/"
        with _asking(f"versions in s3://{self.bucket}/{where}"):
            for page in self._client.get_paginator("list_object_versions").paginate(Bucket=self.bucket, Prefix=where):
                found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
                for one in sorted(found, key=lambda each: (each["Key"], each["VersionId"])):
                    key = one["Key"].removeprefix(self.prefix)
                    yield Held(key, one.get("Size", 0), one["LastModified"].astimezone(UTC), one["VersionId"])

    def folders(self, folder: str = "") -> list[str]:
        """See `Holdings`."""
        where = f"{self.prefix}{folder}/" if folder else self.prefix
        names: set[str] = set()
        with _asking(f"folders in s3://{self.bucket}/{where}"):
            # By versions: a folder in which every object is hidden still holds something.
            pages = self._client.get_paginator("list_object_versions")
            for page in pages.paginate(Bucket=self.bucket, Prefix=where, Delimiter="/"):
                found = (one["Prefix"] for one in page.get("CommonPrefixes", []))
                names |= {name.removeprefix(where).rstrip("/") for name in found}
        return sorted(names)

    def erase(self, folder: str) -> None:
        """See `Holdings`."""
        for _ in range(_ROUNDS):
            self._abort_uploads(folder)
            self.delete(self.held(folder))
            if next(self.held(folder), None) is None:
                return
        raise StoreError(f"erase {folder}: somebody keeps writing to s3://{self.bucket}/{self.prefix}{folder}")

    def delete(self, held: Iterable[Held]) -> None:
        """See `Holdings`."""
        rest = iter(held)
        while some := list(islice(rest, _AT_ONCE)):
            objects = [{"Key": f"{self.prefix}{one.key}", "VersionId": one.version} for one in some]
            with _asking(f"deleting {len(some)} versions of s3://{self.bucket}/{self.prefix}"):
                answer = self._client.delete_objects(Bucket=self.bucket, Delete={"Objects": objects, "Quiet": True})
            if failed := answer.get("Errors"):
                raise StoreError(f"delete: {len(failed)} versions are left, the first by {failed[0].get('Code')}")

    def _abort_uploads(self, folder: str) -> None:
        where = f"{self.prefix}{_checked(folder)}/"
        with _asking(f"uploads to s3://{self.bucket}/{where}"):
            for page in self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket, Prefix=where):
                for upload in page.get("Uploads", []):
                    which = {"Key": upload["Key"], "UploadId": upload["UploadId"]}
                    self._client.abort_multipart_upload(Bucket=self.bucket, **which)


@contextmanager
def _asking(what: str) -> Iterator[None]:
    """Turn what AWS answers into what a store says."""
    try:
        with calling(what):
            yield
    except AwsError as error:
        raise StoreError(str(error)) from error


def _checked(folder: str) -> str:
    """Return a folder's name if it is one: what is empty or leads elsewhere would erase another's."""
    parts = folder.split("/")
    if not all(part and part not in {".", ".."} for part in parts):
        raise ValueError(f"not a folder of a store: {folder!r}")
    return folder


def _inside(root: Path, key: str) -> Path:
    return root / _checked(key)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return a folder's entries in the order of their keys; none if it is not there."""
    try:
        with os.scandir(folder) as found:
            entries = list(found)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(entries, key=lambda entry: f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name)


def _remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it, never following a link; what is gone already is no error."""
    with suppress(FileNotFoundError):
        if path.is_symlink() or not path.is_dir():
            path.unlink()
            return
        for entry in _entries(path):
            _remove(path / entry.name)
        try:
            path.rmdir()
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
