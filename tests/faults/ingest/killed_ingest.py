"""Ingest that kills itself, without a word, at a given point of its nth put: `killed_ingest.py POINT N`."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from functools import partial
from typing import Any

from starlette.types import ASGIApp

import lake.stores
from ingest.app import create_app
from ingest.server import serve
from ingest.settings import IngestSettings
from lake.settings import LakeSettings
from lake.stores import LocalStore, local_folder


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DyingStore(LocalStore):
    """A local store that dies at `point` of put number `fatal`."""

    point = ""
    fatal = 0

    def __init__(self, settings: IngestSettings) -> None:
        super().__init__(local_folder(LakeSettings(home=settings.home).staging_url))
        self._puts = itertools.count(1)

    def put_new(self, key: str, data: bytes) -> None:
        if next(self._puts) != self.fatal:
            super().put_new(key, data)
            return
        link = os.link
        if self.point == "before it begins":
            die()
        if self.point == "before the link":
            lake.stores.os.link = die  # type: ignore[assignment]
        if self.point == "before the folder's fsync":
            lake.stores.os.link = lambda source, target: (link(source, target), die())  # type: ignore[assignment]
        super().put_new(key, data)
        die()


def load(point: str, fatal: int, settings: IngestSettings) -> ASGIApp:
    DyingStore.point, DyingStore.fatal = point, fatal
    return create_app(settings, DyingStore(settings))


if __name__ == "__main__":
    serve(IngestSettings(), partial(load, sys.argv[1], int(sys.argv[2])))
