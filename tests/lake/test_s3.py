"""A store in a real S3 server: put-if-absent under a race, in parts, long listings; and what is said of a bad one."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kaimon.base.aws import AwsError, aws_client, aws_session
from kaimon.base.regions import RegionError
from kaimon.base.settings import AwsSettings
from lake.buckets import Bucket, bucket_of
from lake.conditional import UnfitStoreError, require_conditional_put, require_fit
from lake.s3 import S3Store
from lake.sessions import policy
from lake.settings import STORES, LakeSettings
from lake.stores import AlreadyExistsError, MissingError, StoreError, open_store

MIB = 1 << 20


@pytest.fixture
def bucket(s3: Any) -> Bucket:
    found = bucket_of(f"{s3.stores_url}/staging")
    assert found is not None
    return found


@pytest.fixture
def store(bucket: Bucket) -> S3Store:
    return S3Store("staging", bucket, LakeSettings(), part_bytes=5 * MIB)


def test_one_setting_puts_every_store_into_the_bucket(s3: Any) -> None:
    assert {name: LakeSettings().url(name) for name in STORES} == {name: f"{s3.stores_url}/{name}" for name in STORES}
    assert LakeSettings(stores_url="s3://other/", lake_url="s3://lake/x").lake_url == "s3://lake/x"


def test_an_object_comes_back_as_it_was_put_and_its_key_is_taken(store: S3Store) -> None:
    store.put_new("acme/n1/1.parquet", b"first")
    with pytest.raises(AlreadyExistsError):
        store.put_new("acme/n1/1.parquet", b"first")
    assert store.get("acme/n1/1.parquet") == b"first"
    with pytest.raises(MissingError):
        store.get("acme/n1/2.parquet")


@pytest.mark.parametrize("size", [1, 6 * MIB], ids=["whole", "in parts"])
def test_of_many_writers_of_one_key_exactly_one_succeeds_in_every_round(store: S3Store, size: int) -> None:
    rounds, writers = (25, 16) if size == 1 else (3, 4)

    def write(key: str, number: int) -> bool:
        try:
            store.put_new(key, bytes([number]) * size)
        except AlreadyExistsError:
            return False
        return True

    with ThreadPoolExecutor(writers) as pool:
        for turn in range(rounds):
            key = f"acme/race/{turn}"
            won = list(pool.map(write, [key] * writers, range(writers)))
            assert won.count(True) == 1
            assert store.get(key) == bytes([won.index(True)]) * size


def test_a_large_object_is_put_in_parts_and_none_is_left_of_one_that_was_refused(
    store: S3Store, bucket: Bucket, s3: Any
) -> None:
    data = b"".join(bytes([number]) * MIB for number in range(12))
    store.put_new("acme/large", data)
    assert store.get("acme/large") == data
    client = s3.client()
    assert client.head_object(Bucket=bucket.name, Key=bucket.key("acme/large"))["ETag"].strip('"').endswith("-3")
    with pytest.raises(AlreadyExistsError):
        store.put_new("acme/large", data)
    assert client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", []) == []
    client.close()


def test_a_listing_longer_than_a_page_is_whole_in_order_and_can_begin_anywhere(store: S3Store, s3: Any) -> None:
    keys = [f"acme/n1/{number:012}.parquet" for number in range(1_030)]
    s3.plant(store.bucket.name, [store.bucket.key(key) for key in keys], b"12")
    store.put_new("acme-2/n1/1", b"")
    found = list(store.list("acme"))
    assert [one.key for one in found] == keys
    assert {one.size for one in found} == {2}
    assert all(abs(one.modified - datetime.now(UTC)) < timedelta(hours=1) for one in found)
    assert [one.key for one in store.list("acme", keys[1_000])] == keys[1_001:]
    assert store.prefixes("") == ["acme-2", "acme"], "as their keys sort"
    assert store.prefixes("acme") == ["n1"]
    store.delete([*keys, "acme/not-there"])
    assert list(store.list("acme")) == []
    assert [one.key for one in store.list("")] == ["acme-2/n1/1"]


@pytest.mark.parametrize("key", ["", "/a", "a/", "../a", "a//b", "a/../b", "é"])
def test_a_key_that_leads_elsewhere_is_none(store: S3Store, key: str) -> None:
    with pytest.raises(ValueError, match="not a key"):
        store.put_new(key, b"x")


def test_a_fit_store_is_left_as_it_was(s3: Any) -> None:
    require_fit("staging", LakeSettings())
    assert list(open_store("staging").list("")) == []


def test_a_server_without_a_conditional_put_is_refused_by_name(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What s3rver and older gateways do with the condition: they do not look at it."""

    def put(client: Any, key: str, data: bytes, how: dict[str, Any]) -> None:
        client.put_object(Bucket=store.bucket.name, Key=store.bucket.key(key), Body=data, **how)

    monkeypatch.setattr(store, "_put", put)
    with pytest.raises(UnfitStoreError, match="the staging store at s3://b has no conditional put"):
        require_conditional_put(store, "the staging store at s3://b")


def test_a_bucket_that_is_not_there_is_said_by_name(s3: Any) -> None:
    with pytest.raises(StoreError, match="nobodys-bucket"):
        require_fit("lake", LakeSettings(stores_url="s3://nobodys-bucket"))


def test_a_bucket_of_another_region_is_refused(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 says where a bucket lies; this server has one region."""
    client = aws_client("s3")
    monkeypatch.setattr(client, "head_bucket", lambda **_: {"BucketRegion": "eu-west-1"})
    monkeypatch.setattr("lake.s3.s3_client", lambda *_: client)
    with pytest.raises(RegionError, match="lies in eu-west-1, not in us-west-2"):
        require_fit("lake", LakeSettings())
    client.close()


@pytest.mark.parametrize("url", ["s3://", "s3://UPPER/x", "s3://bucket/x?y=1", "s3://a/b#c"])
def test_what_is_no_bucket_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"s3://bucket/prefix"):
        bucket_of(url)


@pytest.mark.parametrize("region", ["eu-west-1", "ca-central-1", "us-iso-east-1", "", None])
def test_no_client_of_aws_is_made_outside_the_united_states(region: str | None) -> None:
    for service in ("s3", "sts", "kms", "secretsmanager"):
        with pytest.raises(ValueError, match=r"United States|no AWS region"):
            aws_client(service, AwsSettings.model_construct(aws_region=region))


def test_a_client_never_follows_s3_out_of_the_region(s3: Any) -> None:
    """boto3 goes where S3 says that a bucket lies."""
    client = aws_client("s3", AwsSettings(aws_s3_endpoint_url=None))
    send = client.meta.events
    for host in ("bucket.s3.eu-west-1.amazonaws.com", "bucket.s3.amazonaws.com", "127.0.0.1.evil.example"):
        with pytest.raises(RegionError):
            send.emit("before-send.s3.GetObject", request=type("Request", (), {"url": f"https://{host}/key"}))
    client.close()


def test_a_users_key_that_never_ends_is_refused(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SESSION_TOKEN")
    with pytest.raises(AwsError, match="never ends"):
        aws_session()
    with pytest.raises(StoreError, match="never ends"):
        open_store("lake").get("acme/x")


def test_the_session_of_a_tenant_allows_its_folders_and_its_key_and_nothing_else() -> None:
    settings = LakeSettings(stores_url="s3://bucket/kaimon", s3_tenant_role="arn:aws:iam::000000000000:role/kaimon")
    said = policy("acme", settings, "us-gov-west-1")
    objects, listing, key = said["Statement"]
    top = "arn:aws-us-gov:s3:::bucket"
    folders = [f"kaimon/{store}/acme/*" for store in ("staging", "lake", "outbox")]
    assert objects["Resource"] == [f"{top}/{folder}" for folder in folders]
    assert listing["Resource"] == top
    assert listing["Condition"] == {"StringLike": {"s3:prefix": folders}}
    assert key["Condition"] == {"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/kaimon-acme"}}
    assert {one["Effect"] for one in said["Statement"]} == {"Allow"}
    assert len(json.dumps(said)) < 2_048, "AWS takes no longer one"
    bucket_key = policy("acme", settings.model_copy(update={"s3_encryption": "bucket"}), "us-west-2")
    assert [one["Action"] for one in bucket_key["Statement"]] == [objects["Action"], "s3:ListBucket"]
