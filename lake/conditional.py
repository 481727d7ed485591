"""Does a store really put only what is not there? Exactly-once rests on it, and not every store that says so does."""

from __future__ import annotations

import threading
import uuid
from typing import Final

from lake.buckets import bucket_of
from lake.settings import LakeSettings, StoreName
from lake.stores import AlreadyExistsError, Store, open_store, silent_store

_PROVEN: Final[set[str]] = set()
_LOCK: Final = threading.Lock()


class UnfitStoreError(Exception):
    """The store replaces objects that are there: nothing may be staged in it."""


def require_fit(name: StoreName, settings: LakeSettings) -> None:
    """See that a store may be written to: it puts only what is not there, and a bucket lies in the configured region.

    Raises:
        UnfitStoreError: it replaces what is there.
        kaimon.base.regions.RegionError: the bucket lies elsewhere.
        StoreError: it cannot be asked.
    """
    url = settings.url(name)
    if bucket_of(url) is not None:
        from lake.s3 import S3Store

        store = silent_store(name, settings)
        if isinstance(store, S3Store):
            store.require_region()
    require_conditional_put(open_store(name, settings), f"the {name} store at {url}")


def require_fit_once(name: StoreName, settings: LakeSettings) -> None:
    """As `require_fit`, of a store in S3, once a process: this machine's own file system is known."""
    url = settings.url(name)
    if bucket_of(url) is None or url in _PROVEN:
        return
    with _LOCK:
        if url not in _PROVEN:
            require_fit(name, settings)
            _PROVEN.add(url)


def require_conditional_put(store: Store, name: str) -> None:
    """Put an object twice and see that the first one stays.

    Args:
        store: is left as it was.
        name: what the error calls it.

    Raises:
        UnfitStoreError: it does not.
        StoreError: it cannot be asked.
    """
    # Not in a folder: the folders of the staging store are tenants.
    key = f"conditional-put-{uuid.uuid4().hex}"
    try:
        store.put_new(key, b"first")
        try:
            store.put_new(key, b"second")
        except AlreadyExistsError:
            kept = store.get(key) == b"first"
        else:
            kept = False
    finally:
        store.delete([key])
    if not kept:
        raise UnfitStoreError(f"{name} has no conditional put: it replaced an object that was there")
