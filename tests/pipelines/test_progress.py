"""How far a long step is: a line now and then, and none of a step that is quick."""

from __future__ import annotations

from datetime import date

import polars as pl
from structlog.testing import capture_logs

from pipelines.progress import Progress

DAY = date(2026, 3, 4)


def test_a_line_says_how_far_a_step_is_and_the_next_one_waits() -> None:
    clock = iter([0.0, 9.0, 12.0, 13.0, 23.0])
    progress = Progress("seal", "acme", now=lambda: next(clock), day=DAY)
    with capture_logs() as logged:
        parts = progress.watch("write", (pl.DataFrame({"x": range(25)}) for _ in range(4)), 100)
        assert [part.height for part in parts] == [25] * 4
    every = {"event": "progress", "log_level": "info", "step": "seal", "tenant": "acme", "day": DAY, "unit": "rows"}
    assert logged == [
        every | {"phase": "write", "done": 50, "of": 100, "share": 0.5, "s": 12.0},
        every | {"phase": "write", "done": 100, "of": 100, "share": 1.0, "s": 23.0},
    ]
