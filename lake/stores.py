"""Named stores of immutable objects: durable put-if-absent, get, ordered listing, delete."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

from lake.buckets import bucket_of
from lake.durable import make_folders, sync_folder
from lake.reporting import ReportingStore
from lake.settings import LakeSettings, StoreName

_KEY: Final = re.compile(r"[A-Za-z0-9_=-][A-Za-z0-9._=-]*(/[A-Za-z0-9_=-][A-Za-z0-9._=-]*)*")


class StoreError(Exception):
    """The store failed; whether what was asked for happened is unknown."""


class AlreadyExistsError(StoreError):
    """An object of this key is there, durably; it was not touched."""


class MissingError(StoreError):
    """No object of this key is there."""


@dataclass(frozen=True)
class StoredObject:
    """One object as listed: its key, its size in bytes, and when it was put (aware, UTC)."""

    key: str
    size: int
    modified: datetime


class Store(Protocol):
    """What every store can do. A key is `name/name/…`; no name begins with a dot, so none leaves the store."""

    def put_new(self, key: str, data: bytes) -> None:
        """Put an object; on return it survives a loss of power.

        Raises:
            AlreadyExistsError: the key is taken, by an object that is itself durable.
            StoreError: anything else; the object may or may not be there.
        """
        ...

    def get(self, key: str) -> bytes:
        """Return an object's bytes.

        Raises:
            MissingError: it is not there.
            StoreError: anything else.
        """
        ...

    def list(self, prefix: str, start_after: str | None = None) -> Iterator[StoredObject]:
        """Yield the objects below the folder `prefix` ("" for all) in key order, after the key `start_after`."""
        ...

    def prefixes(self, prefix: str) -> Sequence[str]:
        """Return the names of the folders directly in the folder `prefix` ("" for the top), in order."""
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; one that is not there is no error."""
        ...


def check_key(key: str) -> str:
    """Return a key if it is one.

    Raises:
        ValueError: it is not, or leads out of the store.
    """
    if not _KEY.fullmatch(key):
        raise ValueError(f"not a key: {key!r}")
    return key


class LocalStore:
    """A store in a folder of this machine.

    An object is written beside its place under a name with a leading dot, made durable, then linked: a link never
    replaces, so two writers of one key cannot both succeed, and a reader never sees half an object.
    """

    def __init__(self, root: Path, mode: int = 0o666) -> None:
        """Open a store; `mode` is that of its files, as far as the process's umask leaves it."""
        self.root = root
        self._mode = mode

    def put_new(self, key: str, data: bytes) -> None:
        """See `Store`."""
        path = self._path(key)
        temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}"
        try:
            make_folders(path.parent)
            try:
                descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, self._mode)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.link(temporary, path)
            finally:
                with suppress(FileNotFoundError):
                    temporary.unlink()
            sync_folder(path.parent)
        except FileExistsError as error:
            # Whoever linked it may not have come to its own fsync of the folder: the answer promises durability.
            try:
                sync_folder(path.parent)
            except OSError as failure:
                raise StoreError(f"put {key}: {failure}") from failure
            raise AlreadyExistsError(key) from error
        except OSError as error:
            raise StoreError(f"put {key}: {error}") from error

    def get(self, key: str) -> bytes:
        """See `Store`."""
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise MissingError(key) from error
        except OSError as error:
            raise StoreError(f"get {key}: {error}") from error

    def list(self, prefix: str, start_after: str | None = None) -> Iterator[StoredObject]:
        """See `Store`."""
        try:
            yield from self._walk(prefix, start_after or "")
        except OSError as error:
            raise StoreError(f"list {prefix}: {error}") from error

    def prefixes(self, prefix: str) -> Sequence[str]:
        """See `Store`."""
        try:
            return [entry.name for entry in self._entries(prefix) if entry.is_dir()]
        except OSError as error:
            raise StoreError(f"list {prefix}: {error}") from error

    def delete(self, keys: Iterable[str]) -> None:
        """See `Store`."""
        folders = set()
        try:
            for key in keys:
                path = self._path(key)
                with suppress(FileNotFoundError):
                    path.unlink()
                    folders.add(path.parent)
            for folder in folders:
                sync_folder(folder)
        except OSError as error:
            raise StoreError(f"delete: {error}") from error

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)

    def _entries(self, prefix: str) -> Iterable[os.DirEntry[str]]:
        """Return a folder's entries in key order: a folder sorts as its name and a slash, as its keys do."""
        folder = self._path(prefix) if prefix else self.root
        try:
            with os.scandir(folder) as found:
                entries = [entry for entry in found if not entry.name.startswith(".")]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(entries, key=lambda entry: f"{entry.name}/" if entry.is_dir() else entry.name)

    def _walk(self, prefix: str, start_after: str) -> Iterator[StoredObject]:
        for entry in self._entries(prefix):
            key = f"{prefix}/{entry.name}" if prefix else entry.name
            if entry.is_dir():
                if f"{key}/" > start_after or start_after.startswith(f"{key}/"):
                    yield from self._walk(key, start_after)
            elif key > start_after:
                try:
                    status = entry.stat()
                except FileNotFoundError:
                    continue
                yield StoredObject(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))


def open_store(name: StoreName, settings: LakeSettings | None = None) -> Store:
    """Return one of the stores; whatever is done to it leaves a record in the access log.

    Raises:
        ValueError: its URL is of a kind that no store exists for.
    """
    return ReportingStore(name, silent_store(name, settings))


def silent_store(name: StoreName, settings: LakeSettings | None = None) -> Store:
    """Return one of the stores as it is: for the access log itself, which would else write about its writing."""
    settings = settings or LakeSettings()
    if (bucket := bucket_of(settings.url(name))) is not None:
        from lake.s3 import S3Store

        return S3Store(name, bucket, settings)
    # A summary is for people to read, and lies where they might look: for nobody but its owner.
    return LocalStore(local_folder(settings.url(name)), 0o600 if name == "outbox" else 0o666)


def local_folder(url: str) -> Path:
    """Return the folder that a `file:///…` URL names.

    Raises:
        ValueError: it is another kind of URL.
    """
    parts = urlsplit(url)
    if parts.scheme != "file" or parts.netloc not in {"", "localhost"} or not parts.path.startswith("/"):
        raise ValueError(f"a store's URL is file:///absolute/folder, not {url!r}")
    return Path(unquote(parts.path))
