"""A day in passes: whatever the size of a pass, each row is in one part, and what is computed is the same."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from structlog.testing import capture_logs

from lake.frames import frame_schema
from pipelines import passes
from pipelines.checks import accounting
from pipelines.checks.metrics import event_metrics
from pipelines.passes import by_hash, by_value, telling
from pipelines.progress import Progress
from pipelines.rollups import activity as activity_module
from pipelines.rollups import actors

ROWS, DAY = 3_000, date(2026, 1, 2)


@pytest.fixture
def day() -> pl.LazyFrame:
    """Return a day of eleven hosts, two of them far busier, in which 40 rows are there twice."""
    rng = np.random.default_rng(3)
    host = rng.zipf(1.6, ROWS) % 11
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    given = pl.DataFrame(
        {
            "time": [moment + timedelta(seconds=int(second)) for second in rng.integers(0, 86_400, ROWS)],
            "operation": rng.choice(np.asarray(["open", "write", "delete"]), ROWS),
            "path": [f"/data/{number}" for number in rng.zipf(1.3, ROWS) % 200],
            "path_status": ["resolved"] * ROWS,
            "file_type": ["regular"] * ROWS,
            "result": rng.choice(np.asarray([0, 13]), ROWS),
            "count": rng.integers(1, 9, ROWS),
            "uid": rng.integers(1000, 1003, ROWS),
            "process": [f"proc-{number}" for number in rng.integers(0, 5, ROWS)],
            "agent_id": [f"agt_{number:016x}" for number in host],
            "hostname": [f"host-{number}" for number in host],
            "load_id": [f"load-{number}" for number in host],
            "cpu": rng.integers(0, 2, ROWS),
            "seq": np.arange(ROWS),
            "received_at": [moment] * ROWS,
            "event_day": [DAY] * ROWS,
        }
    )
    whole = given.select(
        (pl.col(name).cast(kind) if name in given.columns else pl.lit(None, kind).alias(name))
        for name, kind in frame_schema("events").items()
    )
    return pl.concat([whole, whole.sample(40, seed=1)]).lazy()


@pytest.mark.parametrize("cut", [by_value, by_hash])
@pytest.mark.parametrize("most", [1, 500, 10_000])
def test_each_row_is_in_one_part_and_each_value_whole(day: pl.LazyFrame, cut: object, most: int) -> None:
    column = "agent_id" if cut is by_value else "path"
    parts = [part.collect() for part in cut(day, column, most)]  # type: ignore[operator]
    assert sum(part.height for part in parts) == ROWS + 40
    values = pl.concat([part.select(pl.col(column).unique()) for part in parts])
    assert values[column].is_duplicated().sum() == 0
    assert (len(parts) > 1) == (most < ROWS)


def test_each_pass_is_told_of_as_it_begins_and_only_within(day: pl.LazyFrame) -> None:
    with capture_logs() as said:
        with telling(Progress("roll", "acme", unit="passes", every_s=0, table="top_paths")):
            parts = len(list(by_hash(day, "path", 1_000)))
        assert len(list(by_hash(day, "path", 1_000))) == parts
    lines = [line for line in said if line["event"] == "progress"]
    assert [(line["table"], line["done"], line["of"]) for line in lines] == [
        ("top_paths", n, parts) for n in range(parts)
    ]


def test_small_passes_give_what_one_pass_gives(day: pl.LazyFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    rolls = (activity_module.activity, actors.top_paths, actors.processes, actors.users)
    whole = [roll(day) for roll in rolls]
    for module in (activity_module, actors):
        monkeypatch.setattr(module, "by_value", lambda events, column: by_value(events, column, 400))
    monkeypatch.setattr(actors, "by_hash", lambda events, column: by_hash(events, column, 400))
    for roll, expected in zip(rolls, whole, strict=True):
        assert roll(day).equals(expected), roll.__name__
        assert not expected.is_empty()


@pytest.mark.parametrize("most", [100, passes.ROWS])
def test_doubled_rows_are_counted_whatever_the_size_of_a_pass(
    day: pl.LazyFrame, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounting, "_DISTINCT_ROWS", most)
    metrics = event_metrics(day)
    assert (metrics["rows"], metrics["doubled_rows"]) == (ROWS + 40, 40)
    told = accounting.distinct_rows(day)
    wanted = day.group_by(accounting.CPU).agg(distinct=pl.col("seq").n_unique().cast(pl.Int64)).collect()
    assert told.sort(accounting.CPU).equals(wanted.sort(accounting.CPU))
