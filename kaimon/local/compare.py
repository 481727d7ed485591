"""The generator's log against the tables: each line exactly once, and nothing besides."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import polars as pl

KEY = ["operation", "path", "target_path", "pid", "uid"]


@dataclass(frozen=True)
class Comparison:
    """How the log and the table differ; `expected` and `found` are occurrences."""

    expected: int
    found: int
    missing: pl.DataFrame
    surplus: pl.DataFrame

    @property
    def equal(self) -> bool:
        """Whether every line of the log is in the table exactly once, and nothing else is."""
        return self.missing.is_empty() and self.surplus.is_empty()


def read_log(path: Path) -> pl.DataFrame:
    """Return the generator's log with the columns of `KEY`."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    schema = {"operation": pl.String, "path": pl.String, "target_path": pl.String, "pid": pl.Int64, "uid": pl.Int64}
    return pl.DataFrame(lines, schema=schema)


def compare(log: pl.DataFrame, events: pl.DataFrame) -> Comparison:
    """Compare the log with the marked rows of `events` by operation, paths, process and user, with their counts.

    Returns frames `missing` and `surplus` with the columns of `KEY` and `times`, the occurrences too few or too many.
    """
    wanted = log.group_by(KEY).agg(pl.len().cast(pl.Int64).alias("wanted"))
    got = events.group_by(KEY).agg(pl.col("count").sum().alias("got"))
    both = wanted.join(got, on=KEY, how="full", coalesce=True, nulls_equal=True).with_columns(
        pl.col("wanted", "got").fill_null(0)
    )
    difference = both.with_columns(times=(pl.col("wanted") - pl.col("got")).abs()).select(
        *KEY, "times", "wanted", "got"
    )
    return Comparison(
        expected=log.height,
        found=int(events["count"].sum()),
        missing=difference.filter(pl.col("got") < pl.col("wanted")).drop("wanted", "got").sort(KEY),
        surplus=difference.filter(pl.col("got") > pl.col("wanted")).drop("wanted", "got").sort(KEY),
    )
