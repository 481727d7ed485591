"""One portal and one browser for all of these tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser import world as made


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[made.World]:
    if (reason := made.missing()) is not None:
        pytest.skip(reason)
    with made.running(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture(autouse=True)
def _leave(request: pytest.FixtureRequest) -> Iterator[Any]:
    yield
    if "world" in request.fixturenames:
        request.getfixturevalue("world").leave()
