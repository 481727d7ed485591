"""Stores, and what they hold, that leave a record in the access log of whatever is done to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kaimon.base.access import OK, accessing
from lake.buckets import tenant_of
from lake.settings import StoreName

if TYPE_CHECKING:
    from lake.holdings import Held, Holdings
    from lake.stores import Store, StoredObject


class ReportingStore:
    """Any store, observed. One record each for a put, a get, a listing (at its end) and a deleted key."""

    def __init__(self, name: StoreName, store: Store) -> None:
        """Watch `store`, which is called `name`."""
        self.name = name
        self.store = store

    def put_new(self, key: str, data: bytes) -> None:
        """See `Store`."""
        with accessing("storage", f"{self.name}.put", self._tenant(key), key) as told:
            told.bytes = len(data)
            self.store.put_new(key, data)

    def get(self, key: str) -> bytes:
        """See `Store`."""
        with accessing("storage", f"{self.name}.get", self._tenant(key), key) as told:
            data = self.store.get(key)
            told.bytes = len(data)
            return data

    def list(self, prefix: str, start_after: str | None = None) -> Iterator[StoredObject]:
        """See `Store`."""
        with accessing("storage", f"{self.name}.list", self._tenant(f"{prefix}/"), prefix or None) as told:
            told.count = 0
            for found in self.store.list(prefix, start_after):
                told.count += 1
                yield found

    def prefixes(self, prefix: str) -> Sequence[str]:
        """See `Store`."""
        with accessing("storage", f"{self.name}.list", self._tenant(f"{prefix}/"), prefix or None) as told:
            found = self.store.prefixes(prefix)
            told.count = len(found)
            return found

    def delete(self, keys: Iterable[str]) -> None:
        """See `Store`."""
        gone = list(keys)
        with _deleting(self.name, gone):
            self.store.delete(gone)

    def _tenant(self, key: str) -> str | None:
        return tenant_of(self.name, key)


class ReportingHoldings:
    """All that a place holds, observed: one record each for a listing, an erasure and a deleted object."""

    def __init__(self, name: str, holdings: Holdings) -> None:
        """Watch `holdings`, whose place is called `name`."""
        self.name = name
        self.holdings = holdings

    def held(self, folder: str) -> Iterator[Held]:
        """See `Holdings`."""
        with accessing("storage", f"{self.name}.list", tenant_of(self.name, f"{folder}/"), folder) as told:
            told.count = 0
            for found in self.holdings.held(folder):
                told.count += 1
                yield found

    def folders(self, folder: str = "") -> list[str]:
        """See `Holdings`."""
        with accessing("storage", f"{self.name}.list", tenant_of(self.name, f"{folder}/"), folder or None) as told:
            found = self.holdings.folders(folder)
            told.count = len(found)
            return found

    def erase(self, folder: str) -> None:
        """See `Holdings`."""
        with accessing("storage", f"{self.name}.erase", tenant_of(self.name, f"{folder}/"), folder):
            self.holdings.erase(folder)

    def delete(self, held: Iterable[Held]) -> None:
        """See `Holdings`."""
        gone = list(held)
        with _deleting(self.name, [one.key for one in gone]):
            self.holdings.delete(gone)


@contextmanager
def _deleting(name: str, keys: Sequence[str]) -> Iterator[None]:
    """Report each key, once it is known whether all of them could be deleted."""
    outcome = "unknown"
    try:
        yield
        outcome = OK
    finally:
        for key in keys:
            with accessing("storage", f"{name}.delete", tenant_of(name, key), key) as told:
                told.outcome = outcome
