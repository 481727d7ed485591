"""Which rows of `quarantine` are still lines in quarantine: what has left it stands there beside its mark."""

from __future__ import annotations

from typing import Final, TypeVar

import polars as pl

Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)

REPLAYED: Final = "replayed"
"""What a mark says: the line of this place has left quarantine and is in `events`."""
PLACE: Final = ["agent_id", "load_id", "batch_seq", "node", "segment_seq", "line"]
"""What names a line: the same number of a batch can arrive twice with different contents."""


def still_there(quarantine: Frame) -> Frame:
    """Return the rows of `quarantine` that are lines, without those that have left it."""
    left = quarantine.filter(pl.col("code") == REPLAYED)
    return quarantine.filter(pl.col("code") != REPLAYED).join(left, on=PLACE, how="anti", maintain_order="left")
