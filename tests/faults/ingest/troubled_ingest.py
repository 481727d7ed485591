"""Ingest whose store and clock misbehave as the file `trouble` in its home says, from one moment to the next.

The file holds `{"store": MODE, "clock_s": SECONDS}`; every second put is in trouble, and the clock is off by so much.
"""

from __future__ import annotations

import itertools
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp

from ingest.app import create_app
from ingest.server import serve
from ingest.settings import IngestSettings
from lake.settings import LakeSettings
from lake.stores import LocalStore, StoreError, local_folder


def trouble(home: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home / "trouble").read_bytes())
    return found


class TroubledStore(LocalStore):
    """A local store that stalls, fails, does what it is asked and loses the answer, or does it twice."""

    def __init__(self, home: Path) -> None:
        super().__init__(local_folder(LakeSettings(home=home).staging_url))
        self._home = home
        self._puts = itertools.count(1)

    def put_new(self, key: str, data: bytes) -> None:
        mode = trouble(self._home)["store"] if next(self._puts) % 2 == 0 else ""
        if mode == "fails":
            raise StoreError(f"put {key}: told to fail")
        if mode == "stalls":
            time.sleep(1.0)
        super().put_new(key, data)
        if mode == "loses answers":
            raise StoreError(f"put {key}: no answer came")
        if mode == "does it twice":
            super().put_new(key, data)


def load(settings: IngestSettings) -> ASGIApp:
    def clock() -> datetime:
        return datetime.now(UTC) + timedelta(seconds=trouble(settings.home)["clock_s"])

    return create_app(settings, TroubledStore(settings.home), clock)


if __name__ == "__main__":
    serve(IngestSettings(), load)
