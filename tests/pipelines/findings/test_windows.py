"""Windows: exactly the rows that lie in a full one, against a model that looks at every window."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.findings.rules import Window
from pipelines.findings.scan import MATCHES, often

START = datetime(2026, 3, 4, tzinfo=UTC)

ROWS = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from("abcde"), st.sampled_from([0, 1000])), min_size=1, max_size=30
)


@settings(deadline=None, max_examples=60)
@given(rows=ROWS, least=st.integers(1, 5), length=st.integers(1, 12))
def test_a_row_counts_exactly_if_it_lies_in_a_full_window(
    rows: list[tuple[int, str, int]], least: int, length: int
) -> None:
    rows.sort()
    window = Window(("agent_id", "uid"), "path", least, length)
    frame = pl.DataFrame(
        [
            {"time": START + timedelta(seconds=at), "path": path, "uid": uid, "agent_id": "a", "count": number}
            for number, (at, path, uid) in enumerate(rows)
        ],
        schema_overrides={"time": pl.Datetime("us", "UTC")},
    )
    frame = frame.with_columns(
        pl.lit(None, kind).alias(name) for name, kind in MATCHES.items() if name not in frame.columns
    )
    kept = set(often(frame.select(list(MATCHES)), window)["count"])
    expected = set()
    for end in range(60):
        for user in (0, 1000):
            inside = [n for n, (at, _, uid) in enumerate(rows) if uid == user and end - length < at <= end]
            if len({rows[n][1] for n in inside}) >= least:
                expected |= set(inside)
    assert kept == expected
