"""Half a million events at full speed, with ingest up: none is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.load]


@pytest.mark.parametrize(
    ("arguments", "files", "turns"),
    [
        pytest.param((), 0, 170_000, id="each file once"),
        pytest.param(("--collapse-window", "0"), 1, 227_273, id="one file, nothing collapsed"),
        pytest.param((), 1, 227_273, id="one file, collapsed"),
    ],
)
def test_a_flood_loses_nothing(  # noqa: PLR0917 - fixtures
    arguments: tuple[str, ...],
    files: int,
    turns: int,
    start: Callable[..., Any],
    server: Any,
    loop: Callable[[int, int], Any],
) -> None:
    agent = start("--cut-interval", "2s", *arguments)
    load = loop(files, turns)
    load.finish()
    assert sum(load.events.values()) >= 500_000
    agent.stop()
    server.check()
    assert sum(server.load.lost("lost_rows").values()) == 0, server.load.lost("lost_rows")
    assert sum(server.load.lost("lost_events").values()) == 0
    assert load.told(server.load) == load.events
    assert server.load.final
    assert server.load.pending() == 0
