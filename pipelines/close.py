"""Closes one day now, in this process: `python -m pipelines.close 2026-03-04`.

The same job that the nightly schedule starts, recorded in the same `DAGSTER_HOME` (by default
`dagster` in the home), so that it shows in Dagster's pages.
"""

from __future__ import annotations

import argparse
import os
import sys
from datetime import date

from dagster import DagsterInstance

from pipelines.settings import PipelineSettings


def close_day(day: date, instance: DagsterInstance) -> bool:
    """Check, roll up, tell and deliver a day of every tenant; say whether the run succeeded.

    Raises:
        ValueError: the day has no partition.
    """
    from pipelines.definitions import defs
    from pipelines.jobs import CLOSE_DAY
    from pipelines.partitions import DAYS

    if not DAYS.has_partition_key(day.isoformat()):
        raise ValueError(f"there is no partition {day}: days begin at {DAYS.start.date()} and end today")
    job = defs.resolve_job_def(CLOSE_DAY.name)
    run = job.execute_in_process(partition_key=day.isoformat(), instance=instance, raise_on_error=False)
    return bool(run.success)


def main() -> None:
    """Close the day that the command line names; exit 1 if it fails."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.close", description=__doc__)
    parser.add_argument("day", type=date.fromisoformat, help="UTC, as 2026-03-04; today works too and is provisional")
    day = parser.parse_args().day
    os.environ.setdefault("DAGSTER_HOME", str(PipelineSettings().home.resolve() / "dagster"))
    with DagsterInstance.get() as instance:
        sys.exit(0 if close_day(day, instance) else 1)


if __name__ == "__main__":
    main()
