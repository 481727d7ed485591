"""S3 when it is not at its best: answers that are lost, requests turned away, bodies cut short, a clock that is off."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest

from kaimon.base.aws import aws_credentials
from lake.commits import Writer
from lake.frames import frame_schema
from lake.reads import scan
from lake.settings import LakeSettings
from lake.stores import AlreadyExistsError, MissingError, StoreError, open_store
from lake.tables import open_table

MIB = 1 << 20


@pytest.fixture(scope="session")
def faults() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kaimon_test_s3_faults", Path(__file__).parents[2] / "s3_faults.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def relay(faults: ModuleType, s3: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """Everything that this test asks of S3 goes through a relay."""
    monkeypatch.setenv("KAIMON_HOME", str(tmp_path))
    with faults.relaying(s3.port) as running:
        monkeypatch.setenv("KAIMON_AWS_S3_ENDPOINT_URL", running.endpoint)
        yield running


def rows(count: int) -> pl.DataFrame:
    values: dict[Any, Any] = {pl.String: "x", pl.Date: datetime(2026, 3, 4, tzinfo=UTC).date()}
    values[pl.Datetime("us", "UTC")] = datetime(2026, 3, 4, 12, tzinfo=UTC)
    schema = frame_schema("deliveries")
    return pl.DataFrame([{name: values.get(kind, 1) for name, kind in schema.items()}] * count, schema=schema)


@pytest.mark.parametrize("size", [1, 40 * MIB], ids=["whole", "in parts"])
def test_a_put_whose_answer_is_lost_is_known_for_its_own(relay: Any, faults: ModuleType, size: int) -> None:
    store = open_store("staging")
    relay.plan(faults.LOST, "PUT" if size == 1 else "POST", "n1/1.parquet" if size == 1 else "uploadId=")
    store.put_new("acme/n1/1.parquet", b"x" * size)
    assert relay.left() == 0
    assert store.get("acme/n1/1.parquet") == b"x" * size
    with pytest.raises(AlreadyExistsError):
        store.put_new("acme/n1/1.parquet", b"x" * size)


def test_a_put_whose_answer_is_lost_never_takes_anothers_object_for_its_own(relay: Any, faults: ModuleType) -> None:
    store = open_store("staging")
    store.put_new("acme/n1/1.parquet", b"same")
    relay.plan(faults.LOST, "PUT", "n1/1.parquet")
    with pytest.raises(AlreadyExistsError):
        store.put_new("acme/n1/1.parquet", b"same")


def test_requests_that_are_turned_away_are_tried_again_and_at_last_are_an_error(relay: Any, faults: ModuleType) -> None:
    store = open_store("staging")
    relay.plan(faults.SLOW, "PUT", "n1/1", times=2)
    relay.plan(faults.SLOW, "GET", "n1/1", times=2)
    store.put_new("acme/n1/1", b"x")
    assert store.get("acme/n1/1") == b"x"
    assert relay.left() == 0
    relay.plan(faults.SLOW, "PUT", "n1/2", times=100)
    with pytest.raises(StoreError, match="SlowDown"):
        store.put_new("acme/n1/2", b"x")
    assert relay.left() == 95, "five attempts"


def test_a_body_that_is_cut_short_is_read_again(relay: Any, faults: ModuleType) -> None:
    store = open_store("staging")
    data = bytes(range(256)) * 4096
    store.put_new("acme/n1/1", data)
    relay.plan(faults.CUT, "GET", "n1/1", times=2)
    assert store.get("acme/n1/1") == data
    relay.plan(faults.CUT, "GET", "n1/1", times=5)
    with pytest.raises(StoreError):
        store.get("acme/n1/1")


def test_what_is_refused_because_it_is_not_there_is_missing_and_what_is_there_is_not(
    relay: Any, faults: ModuleType
) -> None:
    store = open_store("staging")
    relay.plan(faults.DENIED, "GET", "n1/1")
    with pytest.raises(MissingError):
        store.get("acme/n1/1")


def test_a_clock_that_is_off_is_said_by_name(relay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    late = datetime.now(UTC) - timedelta(hours=2)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda remove_tzinfo=True: late.replace(tzinfo=None))
    with pytest.raises(StoreError, match=r"RequestTimeTooSkewed.*set this machine's clock"):
        open_store("staging").put_new("acme/n1/1", b"x")


def test_a_server_that_is_away_is_an_error_of_the_store(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAIMON_AWS_S3_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:9"):
        open_store("staging").put_new("acme/n1/1", b"x")


def test_a_commit_whose_answer_is_lost_is_in_the_table_once(relay: Any, faults: ModuleType) -> None:
    writer = Writer("acme", 1, LakeSettings())
    writer.append("deliveries", rows(1))
    faulty = [("_delta_log/", faults.LOST), (".parquet", faults.LOST), ("_delta_log/", faults.SLOW)]
    for turn, (part, what) in enumerate(faulty):
        relay.plan(what, "PUT", part)
        writer.append("deliveries", rows(10))
        assert relay.left() == 0
        assert scan("acme", "deliveries").collect().height == 1 + 10 * (turn + 1)


def test_a_marked_commit_whose_answer_is_lost_is_in_the_table_once(relay: Any, faults: ModuleType) -> None:
    writer = Writer("acme", 1, LakeSettings())
    writer.append("deliveries", rows(1), {"n1": 1})
    relay.plan(faults.LOST, "PUT", "_delta_log/")
    assert writer.append("deliveries", rows(10), {"n1": 2}) == 2
    assert writer.versions("deliveries", ["n1"]) == {"n1": 2}
    assert scan("acme", "deliveries").collect().height == 11


def test_a_replacement_whose_answer_is_lost_is_in_the_table_once(relay: Any, faults: ModuleType) -> None:
    writer = Writer("acme", 1, LakeSettings())
    writer.append("deliveries", rows(3))
    relay.plan(faults.LOST, "PUT", "_delta_log/")
    writer.replace("deliveries", rows(5))
    assert scan("acme", "deliveries").collect().height == 5


def test_a_table_is_made_and_written_where_what_is_not_there_is_refused(
    relay: Any, faults: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 says "denied" of an object that is not there to who may list below some folders only."""
    monkeypatch.setenv("KAIMON_S3_TENANT_ROLE", "arn:aws:iam::000000000000:role/kaimon")
    monkeypatch.setattr("lake.clients.assume", lambda *_: (aws_credentials(), datetime.now(UTC) + timedelta(hours=1)))
    settings = LakeSettings()
    relay.plan(faults.DENIED, "GET", "_delta_log/", times=999)
    relay.plan(faults.DENIED, "HEAD", "_delta_log/", times=999)
    writer = Writer("acme", 1, LakeSettings())
    assert open_table("acme", "deliveries", settings) is None
    writer.append("deliveries", rows(2))
    writer.append("deliveries", rows(2))
    there = open_table("acme", "deliveries", settings)
    assert there is not None
    there.create_checkpoint()
    writer.append("deliveries", rows(2))
    assert scan("acme", "deliveries").collect().height == 6
    assert b'"version":2' in open_store("lake").get("acme/deliveries/_delta_log/_last_checkpoint")
    assert relay.left() < 1_998, "it was asked"
