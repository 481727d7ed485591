"""A backfill of a range of days in Dagster: a run a day, one after the other, beside landing."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import yaml

from pipelines.assets import ASSETS

ROOT = Path(__file__).parents[2]


def test_no_day_asset_asks_for_more_than_a_day_a_run() -> None:
    days = [one for one in ASSETS if isinstance(one, dg.AssetsDefinition) and one.partitions_def is not None]
    assert {one.key.to_user_string() for one in days} >= {"day_checks", "sealed_day", "activity", "facts", "delivery"}
    # Dagster's own default is a run a partition; the parameter that says so is in beta, and warns.
    assert [one.key for one in days if one.backfill_policy is not None] == []


def test_one_run_of_a_backfill_goes_at_a_time_and_leaves_room_for_landing() -> None:
    runs = yaml.safe_load((ROOT / "dagster.yaml").read_text())["concurrency"]["runs"]
    limits = {limit["key"]: limit["limit"] for limit in runs["tag_concurrency_limits"]}
    assert limits["dagster/backfill"] == 1
    assert runs["max_concurrent_runs"] - limits["dagster/backfill"] - limits["kaimon/work"] >= 1
