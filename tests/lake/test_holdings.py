"""All that a store holds, and that it holds nothing afterwards: on disk, and in S3 with every version."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer import Typer
from typer.testing import CliRunner

from kaimon.cli import lifecycle as lifecycle_cli
from lake.holdings import LocalHoldings, S3Holdings, holdings, measure
from lake.lifecycle import RULES, differences, wanted, write
from lake.settings import LakeSettings
from lake.stores import StoreError


@pytest.fixture
def bucket(aws: Any) -> str:
    """A versioned bucket of the stand-in."""
    name, client = f"kaimon-{uuid.uuid4().hex}", aws.client("s3")
    client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


def test_on_disk_everything_counts_whatever_its_name_and_an_erasure_leaves_no_folder(tmp_path: Path) -> None:
    for name in ("acme/events/a.parquet", "acme/events/.a.parquet.1f", "acme/.draft", "acme/events/_delta_log/0.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("four")
    (tmp_path / "acme-2").mkdir()
    (tmp_path / "acme-2" / "kept").write_text("kept")
    store = holdings(tmp_path.as_uri(), "lake")
    assert [held.key for held in store.held("acme")] == [
        "acme/.draft", "acme/events/.a.parquet.1f", "acme/events/_delta_log/0.json", "acme/events/a.parquet",
    ]  # fmt: skip
    assert (measure(store.held("acme")).objects, measure(store.held("acme")).bytes) == (4, 16)
    assert store.folders("acme") == ["events"]
    store.erase("acme")
    assert store.folders() == ["acme-2"]
    assert (tmp_path / "acme-2" / "kept").read_text() == "kept"
    store.erase("acme")


@pytest.mark.parametrize("folder", ["", ".", "..", "../other", "acme/../beta", "/etc", "acme//x"])
def test_nothing_but_a_folder_of_the_store_can_be_erased(tmp_path: Path, folder: str, bucket: str, aws: Any) -> None:
    for store in (LocalHoldings(tmp_path / "store"), S3Holdings(bucket, "", aws.client("s3"))):
        with pytest.raises(ValueError, match="not a folder"):
            store.erase(folder)


def test_what_two_sets_hold_is_told_apart_by_their_digests(tmp_path: Path) -> None:
    store = LocalHoldings(tmp_path)
    (tmp_path / "acme").mkdir()
    digests = set()
    for name, text in (("a", ""), ("b", ""), ("b", "x")):
        (tmp_path / "acme" / name).write_text(text)
        digests.add(measure(store.held("acme")).digest)
    assert len(digests) == 3


@pytest.mark.parametrize("prefix", ["", "some/where"])
def test_in_s3_every_version_marker_and_upload_goes_and_another_tenants_stay(
    aws: Any, bucket: str, prefix: str
) -> None:
    client = aws.client("s3")
    top = f"{prefix}/" if prefix else ""
    for tenant in ("acme", "acme-2"):
        for text in (b"one", b"other"):
            client.put_object(Bucket=bucket, Key=f"{top}{tenant}/events/a.parquet", Body=text)
        client.put_object(Bucket=bucket, Key=f"{top}{tenant}/hidden/b.parquet", Body=b"gone")
        client.delete_object(Bucket=bucket, Key=f"{top}{tenant}/hidden/b.parquet")
        client.create_multipart_upload(Bucket=bucket, Key=f"{top}{tenant}/events/c.parquet")
    store = holdings(f"s3://{bucket}/{prefix}", "lake")
    assert store.folders() == ["acme", "acme-2"]
    assert store.folders("acme") == ["events", "hidden"], "a folder in which all is hidden holds something"
    held = list(store.held("acme"))
    assert sorted(one.size for one in held) == [0, 3, 4, 5]
    assert {one.key for one in held} == {"acme/events/a.parquet", "acme/hidden/b.parquet"}
    before = list(store.held("acme-2"))
    store.erase("acme")
    assert list(store.held("acme")) == []
    assert list(store.held("acme-2")) == before
    left = client.list_object_versions(Bucket=bucket)
    assert not [one for one in left.get("Versions", []) + left.get("DeleteMarkers", []) if "/acme/" in f"/{one['Key']}"]
    uploads = [upload["Key"] for upload in client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])]
    assert uploads == [f"{top}acme-2/events/c.parquet"]


def test_more_versions_than_one_call_takes_go(aws: Any, bucket: str) -> None:
    client = aws.client("s3")
    for number in range(1_050):
        client.put_object(Bucket=bucket, Key=f"acme/{number}", Body=b"")
    store = S3Holdings(bucket, "", client)
    assert measure(store.held("acme")).objects == 1_050
    store.erase("acme")
    assert measure(store.held("acme")).objects == 0


def test_a_bucket_that_is_not_there_is_an_error_of_the_store(aws: Any) -> None:
    with pytest.raises(StoreError, match="NoSuchBucket"):
        list(S3Holdings("nobodys-bucket", "", aws.client("s3")).held("acme"))


@pytest.fixture
def in_s3(bucket: str, monkeypatch: pytest.MonkeyPatch) -> LakeSettings:
    """Stores that share a bucket; the public one is on this machine."""
    for store in ("staging", "lake", "audit"):
        monkeypatch.setenv(f"KAIMON_{store.upper()}_URL", f"s3://{bucket}/{store}")
    return LakeSettings()


def lifecycle(*arguments: str) -> Result:
    app = Typer()
    app.command()(lifecycle_cli.command)
    return CliRunner().invoke(app, list(arguments))


def test_rules_that_were_written_are_found_as_they_should_be_and_every_change_is_seen(
    aws: Any, bucket: str, in_s3: LakeSettings
) -> None:
    assert differences(in_s3) == [
        f"{bucket}: rule kaimon-{name} is missing" for name in ("audit-abandoned", "lake-hidden", "staging-landed")
    ]
    assert lifecycle().exit_code == 1
    assert write(in_s3) == [bucket]
    assert differences(in_s3) == []
    client = aws.client("s3")
    rules = wanted(in_s3)[bucket]
    deletes = {"ID": "tidy", "Status": "Enabled", "Filter": {"Prefix": "audit/"}, "Expiration": {"Days": 1}}
    late = [rule | ({"Expiration": {"Days": 61}} if rule["ID"] == "kaimon-staging-landed" else {}) for rule in rules]
    off = [rule | ({"Status": "Disabled"} if rule["ID"] == "kaimon-lake-hidden" else {}) for rule in rules]
    for changed, told in (
        ([*rules, deletes], "rule tidy is not ours"),
        (late, "rule kaimon-staging-landed says something else of Expiration"),
        (off, "rule kaimon-lake-hidden says something else of Status"),
        (rules[1:], f"rule {rules[0]['ID']} is missing"),
    ):
        client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": changed})
        assert differences(in_s3) == [f"{bucket}: {told}"]
    assert lifecycle("--write").stdout.splitlines()[-1] == "every bucket has exactly its rules"


def test_nothing_in_the_audit_store_ever_expires() -> None:
    assert all("Expiration" not in rule and "Noncurrent" not in str(rule) for rule in RULES["audit"].values())


def test_stores_on_this_machine_have_no_rules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KAIMON_HOME", str(tmp_path))
    assert wanted(LakeSettings()) == {}
    assert lifecycle().stdout == "no store is in S3\n"
