"""A backfill of a range of days in Dagster: a run a day, one after the other, beside landing."""

from __future__ import annotations

import json
import urllib.request
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster import DagsterInstance, DagsterRunStatus

from kaimon.local.processes import Children, wait_for
from kaimon.local.stack import Local, free_port, listens
from pipelines.assets import ASSETS
from tenancy.days import list_days

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


def ask(port: int, query: str, **variables: Any) -> Any:
    """Ask Dagster's pages as its own user interface does."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql", body, {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        told = json.load(answer)
    assert "errors" not in told, told
    return told["data"]


LAUNCH = """mutation ($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
STATUS = "query ($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }"


@pytest.mark.slow
@pytest.mark.timeout(600)  # a run of all assets is some forty processes
def test_a_range_of_days_backfilled_in_dagster_is_a_run_a_day_and_leaves_each_day_delivered(
    home: Any, new_load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = [date(2026, 3, day) for day in (4, 5)]
    tenant = home.tenant("acme")
    for number, day in enumerate(days):
        load = new_load()
        noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
        for second in range(number + 1):
            load.do(noon + timedelta(seconds=second))
        load.cut(noon + timedelta(seconds=30), final=True)
        home.stage(tenant, load)
    assert home.run("events").success
    local, port = Local(home.path, free_port()), free_port()
    local.prepare()
    for name, value in local.environment.items():
        monkeypatch.setenv(name, value)
    names = [one.key.path for one in ASSETS if isinstance(one, dg.AssetsDefinition) and one.partitions_def is not None]
    with Children(tmp_path / "logs") as children:
        local.start_pipelines(children, port)
        wait_for("Dagster's pages", lambda: listens(port), 120, children)
        wait_for("the code's location", lambda: "day_checks" in str(ask(port, "{assetNodes {assetKey {path}}}")), 60)
        params = {
            "assetSelection": [{"path": path} for path in names],
            "partitionNames": [day.isoformat() for day in days],
        }
        launched = ask(port, LAUNCH, params=params)["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched

        def ended() -> str | None:
            status = str(ask(port, STATUS, id=launched["backfillId"])["partitionBackfillOrError"]["status"])
            return status if status.startswith(("COMPLETED", "FAILED", "CANCELED")) else None

        assert wait_for("the backfill to end", ended, 400, children) == "COMPLETED_SUCCESS"
    with DagsterInstance.get() as instance:
        tag = {"dagster/backfill": launched["backfillId"]}
        records = instance.get_run_records(dg.RunsFilter(tags=tag))
    assert {one.dagster_run.status for one in records} == {DagsterRunStatus.SUCCESS}
    assert sorted(one.dagster_run.tags["dagster/partition"] for one in records) == [day.isoformat() for day in days]
    spans = sorted((one.start_time or 0.0, one.end_time or 0.0) for one in records)
    assert all(first[1] <= second[0] for first, second in pairwise(spans)), "one at a time"
    delivered = home.table(tenant, "deliveries")
    assert sorted(delivered["period_start"].to_list()) == days
    assert {one.state for one in list_days(home.db, tenant)} == {"passed"}
