"""What runs print: kept where the setting says, shown, purged with the run, without an erased tenant's lines."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from dagster import DagsterInstance
from dagster._core.storage.compute_log_manager import ComputeIOType
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from pydantic import ValidationError

from kaimon.base.clock import utc_now
from kaimon.base.settings import PROJECT_ROOT
from lake.holdings import Held, holdings
from pipelines.dagster_logs import logs_url
from pipelines.dagster_logs_s3 import blank_objects
from pipelines.purge import purge_runs
from pipelines.retention.erase import erase_tenant
from pipelines.settings import DagsterSettings


@pytest.fixture
def instance(home: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[DagsterInstance]:
    """An instance by the project's own `dagster.yaml`."""
    folder = home.path / "dagster"
    folder.mkdir()
    shutil.copyfile(PROJECT_ROOT / "dagster.yaml", folder / "dagster.yaml")
    monkeypatch.setenv("DAGSTER_HOME", str(folder))
    with DagsterInstance.get() as opened:
        yield opened


def close(home: Any, load: Any, noon: datetime, instance: DagsterInstance, *tenants: str) -> str:
    """Return a run, in a process of its own, that closed a day of each tenant; what it printed names them."""
    load.do(noon)
    load.cut(noon, final=True)
    for tenant in tenants:
        home.stage(home.tenant(tenant), load)
    home.run("events")
    command = [sys.executable, "-m", "pipelines.close", noon.date().isoformat()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, cwd=PROJECT_ROOT)
    assert done.returncode == 0, done.stderr
    (record,) = instance.get_run_records()
    return str(record.dagster_run.run_id)


def printed(instance: DagsterInstance, run: str) -> str:
    """What Dagster's pages show of what a run printed."""
    keys = instance.compute_log_manager.get_log_keys_for_log_key_prefix([run, "compute_logs"], ComputeIOType.STDERR)
    assert keys, "nothing was captured"
    return "".join(instance.compute_log_manager.get_log_data(key).stderr.decode() for key in keys)


def kept(run: str = "") -> list[Held]:
    url = logs_url()
    assert url is not None
    return [one for one in holdings(url, "compute-logs").held("storage") if run in one.key]


def test_what_a_run_prints_is_in_s3_alone_is_shown_and_goes_with_the_run(
    s3: Any, home: Any, noon: Any, load: Any, instance: DagsterInstance
) -> None:
    run = close(home, load, noon, instance, "acme")
    assert kept(run)
    assert not [path for path in (home.path / "dagster" / "storage").rglob("*.err") if run in str(path)]
    assert '"tenant": "acme"' in printed(instance, run)
    assert purge_runs(instance, DagsterSettings(), utc_now() + timedelta(days=401)) == 1
    assert kept(run) == []


def test_an_erased_tenants_lines_are_gone_from_s3_in_every_version_and_no_others(
    s3: Any, home: Any, noon: Any, load: Any, instance: DagsterInstance
) -> None:
    run = close(home, load, noon, instance, "acme", "acme-2")
    url = logs_url()
    assert url is not None
    before = printed(instance, run)
    assert '"acme"' in before
    receipt = erase_tenant(home.db, "acme", wait=lambda _seconds: None)
    assert b'"log_lines"' in receipt.body
    # Whoever looked has a copy here, of which the lines are gone too; what is in S3 is asked for anew.
    copy = home.path / "dagster" / "storage" / run
    assert not [path for path in copy.rglob("*") if path.is_file() and b'"acme"' in path.read_bytes()]
    shutil.rmtree(copy)
    after = printed(instance, run)
    assert '"acme"' not in after
    assert after.count('"acme-2"') == before.count('"acme-2"') > 0
    assert len(after) == len(before)
    client = s3.client()
    for version in _versions(client, url):
        assert b'"acme"' not in client.get_object(**version)["Body"].read()
    assert blank_objects(url, "acme") == 0


def _versions(client: Any, url: str) -> list[dict[str, str]]:
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    found = client.list_object_versions(Bucket=bucket, Prefix=prefix).get("Versions", [])
    assert found
    return [{"Bucket": bucket, "Key": one["Key"], "VersionId": one["VersionId"]} for one in found]


@pytest.mark.parametrize(
    ("stores", "logs", "where"),
    [
        (None, None, None),
        ("s3://bucket/kaimon", None, "s3://bucket/kaimon/compute-logs"),
        ("s3://bucket/kaimon", "local", None),
        (None, "s3://other/logs", "s3://other/logs"),
    ],
)
def test_the_setting_wins_and_else_the_stores_decide(
    stores: str | None, logs: str | None, where: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("KAIMON_HOME", str(tmp_path))
    for name, value in (("KAIMON_STORES_URL", stores), ("KAIMON_COMPUTE_LOGS_URL", logs)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert logs_url() == where


def test_what_a_run_prints_is_at_home_by_default(instance: DagsterInstance) -> None:
    assert isinstance(instance.compute_log_manager, LocalComputeLogManager)


@pytest.mark.parametrize("wrong", ["/var/logs", "s3://bucket", "file:///x", "S3://a/b"])
def test_another_kind_of_place_is_refused(wrong: str) -> None:
    with pytest.raises(ValidationError, match="compute_logs_url"):
        DagsterSettings(compute_logs_url=wrong)
