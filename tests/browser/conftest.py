"""One portal and one browser for the tests of a file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser import world as made


# Not of the session: as long as it is open, Playwright's event loop counts as running, and nothing else's may begin.
@pytest.fixture(scope="module")
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
