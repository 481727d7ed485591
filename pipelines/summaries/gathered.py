"""What the facts of one tenant's day or week are made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Final

import polars as pl

from pipelines.frames import empty
from pipelines.summaries.period import Period

TOP: Final = 5
"""Names in a ranking."""


@dataclass(frozen=True)
class Day:
    """What one tenant's day is made of.

    `activity` and `completeness` are their tables' rows of the day; `paths` the number of different paths;
    `processes` and `users` come from `busiest`; `quarantined` is the number of lines put into quarantine that
    arrived that day; `cloned` the number of agents whose id two machines used; `as_of` the newest data's arrival
    while the day runs, else null; `blind_spots` the agents' words; `accounting` the equation in words. `findings`,
    `touched` (`sensitive`), `new_behaviour` and `acts` are their tables' rows of the day; `days_before` the `events`
    of each of the 28 days before that has any.
    """

    tenant: str
    day: date
    activity: pl.DataFrame
    completeness: pl.DataFrame
    paths: int
    processes: pl.DataFrame
    users: pl.DataFrame
    quarantined: int
    cloned: int
    blind_spots: list[str]
    accounting: str
    findings: pl.DataFrame = field(default_factory=lambda: empty("findings"))
    touched: pl.DataFrame = field(default_factory=lambda: empty("sensitive"))
    new_behaviour: pl.DataFrame = field(default_factory=lambda: empty("new_behaviour"))
    acts: pl.DataFrame = field(default_factory=lambda: empty("acts"))
    days_before: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema={"events": pl.Int64}))
    as_of: str | None = None
    period: Period | None = None

    @property
    def span(self) -> Period:
        """The period; a day unless it is said to be a week, of which `day` is the first."""
        return self.period or Period("day", self.day)


def busiest(events: pl.LazyFrame, kind: str, top: int = TOP) -> pl.DataFrame:
    """Return the names of a kind (`process`, `user`) with the most occurrences: `name`, `events`, `hosts`.

    A user without a name goes by `uid N`. Ties are broken by name, so that the answer never changes by chance.
    """
    name = pl.col("process") if kind == "process" else pl.coalesce("user", pl.format("uid {}", "uid"))
    return (
        events.group_by(name=name)
        .agg(events=pl.col("count").sum(), hosts=pl.col("agent_id").n_unique().cast(pl.Int64))
        .sort(["events", "name"], descending=[True, False])
        .head(top)
        .collect()
    )
