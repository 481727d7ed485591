"""A store that leaves a record in the access log of whatever is done to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from kaimon.base.access import OK, accessing
from lake.settings import StoreName

if TYPE_CHECKING:
    from lake.stores import Store, StoredObject

_OF_TENANTS = frozenset({"staging", "lake"})
"""Stores whose first folders are tenants."""


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
        outcome = "unknown"
        try:
            self.store.delete(gone)
            outcome = OK
        finally:
            for key in gone:
                with accessing("storage", f"{self.name}.delete", self._tenant(key), key) as told:
                    told.outcome = outcome

    def _tenant(self, key: str) -> str | None:
        if self.name not in _OF_TENANTS or "/" not in key:
            return None
        return key.partition("/")[0] or None
