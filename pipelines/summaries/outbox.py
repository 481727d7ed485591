"""The outbox: the store where each revision of each summary lies as HTML, text and PDF."""

from __future__ import annotations

import hashlib

from lake.holdings import holdings
from lake.settings import LakeSettings
from lake.stores import AlreadyExistsError, open_store


def reference(tenant: str, period: str, period_start: str, revision: int) -> str:
    """Return where a revision lies in the outbox."""
    return f"{tenant}/{period}/{period_start}-r{revision}.html"


def put(settings: LakeSettings, name: str, body: bytes) -> str:
    """Put a file durably, all or nothing; return its SHA-256 in hex.

    Putting the same again changes nothing, so a delivery that was killed is simply done again. What lies there and was
    not recorded may be of other words, as a killed delivery of an older version leaves it: it gives way.

    Raises:
        lake.stores.StoreError: it may not be there.
    """
    store = open_store("outbox", settings)
    try:
        store.put_new(name, body)
    except AlreadyExistsError:
        if store.get(name) != body:
            # In every version: not every server takes what a marker hides for gone when it puts what is not there.
            there = holdings(settings.outbox_url, "outbox")
            there.delete([one for one in there.held(name.rpartition("/")[0]) if one.key == name])
            store.put_new(name, body)
    return hashlib.sha256(body).hexdigest()
