"""How far a long step is, as a line in the log every few seconds: a day of many events takes minutes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import polars as pl

from kaimon.base.logs import get_logger

EVERY_S: Final = 10.0
"""Seconds between two lines; a step that takes less leaves none."""


class Progress:
    """Says of one step of one tenant how much it has done, and of how much."""

    def __init__(
        self,
        step: str,
        tenant: str,
        *,
        unit: str = "rows",
        every_s: float | None = None,
        now: Callable[[], float] = time.monotonic,
        **details: object,
    ) -> None:
        """Begin.

        Args:
            step: what is done, in a word.
            tenant: for whom.
            unit: what is counted.
            every_s: seconds between two lines; `EVERY_S` if not given.
            now: a clock, in seconds.
            details: what is to stand in every line.
        """
        self._details = {"step": step, "tenant": tenant, **details, "unit": unit}
        self._every_s, self._now = EVERY_S if every_s is None else every_s, now
        self._began = self._told = now()

    def tell(self, phase: str, done: int, of: int) -> None:
        """Say that a phase has come so far, unless something was said a moment ago.

        Args:
            phase: the part of the step, in a word.
            done: units that are done by now.
            of: how many there are in all.
        """
        at = self._now()
        if at - self._told < self._every_s:
            return
        self._told = at
        told = {"phase": phase, "done": done, "of": of, "share": round(done / max(of, 1), 3)}
        get_logger(__name__).info("progress", **self._details, **told, s=round(at - self._began, 1))

    def watch(self, phase: str, parts: Iterable[pl.DataFrame], of: int) -> Iterator[pl.DataFrame]:
        """Yield frames as they come, and tell of each once it is done with; none is held longer than that."""
        done = 0
        for part in parts:
            height = part.height
            yield part
            del part
            done += height
            self.tell(phase, done, of)
