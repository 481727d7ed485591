"""Does a store really put only what is not there? Exactly-once rests on it, and not every store that says so does."""

from __future__ import annotations

import uuid

from lake.stores import AlreadyExistsError, Store


class UnfitStoreError(Exception):
    """The store replaces objects that are there: nothing may be staged in it."""


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
