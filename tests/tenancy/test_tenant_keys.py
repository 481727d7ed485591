"""A tenant's own KMS key, against a stand-in for AWS."""

from __future__ import annotations

from typing import Any

import pytest

from kaimon.base.redact import redact
from lake.settings import LakeSettings
from pipelines.retention.erase import erase_tenant
from pipelines.settings import PipelineSettings
from tenancy.audit import read_chain
from tenancy.database import Database
from tenancy.erasures import get_erasure
from tenancy.keys import KeysAwayError, UnusableKeyError
from tenancy.settings import TenancySettings
from tenancy.tenant_keys import assign_key, key_of, schedule_deletion
from tenancy.tenants import create_tenant

pytestmark = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def _tenants_of_this_test_alone(request: pytest.FixtureRequest) -> None:
    """The stand-in's KMS outlives a test, and the tenants of several are called the same."""
    if "aws" in request.fixturenames:
        client = request.getfixturevalue("aws").client("kms")
        for alias in client.list_aliases()["Aliases"]:
            if alias["AliasName"].startswith("alias/kaimon-"):
                client.delete_alias(AliasName=alias["AliasName"])


def test_a_key_is_one_tenants_alone(aws: Any, db: Database, tenant: str) -> None:
    key = aws.key()
    assert key_of(db, tenant) is None
    assert assign_key(db, tenant, key.rpartition("/")[2]) == assign_key(db, tenant, key) == key
    assert key_of(db, tenant) == key
    acts = [record.content for record in read_chain(db, tenant)[1] if record.content["act"] == "key.assign"]
    assert [act["detail"] for act in acts] == [{"key": key}]
    create_tenant(db, "beta")
    for whose, which, why in (
        ("beta", key, "another tenant's"),
        (tenant, aws.key(), "has a key already"),
        ("zeta", aws.key(), "there is no tenant"),
    ):
        with pytest.raises(ValueError, match=why):
            assign_key(db, whose, which)


def test_a_tenants_key_has_the_alias_by_which_s3_is_told_of_it(aws: Any, db: Database, tenant: str) -> None:
    create_tenant(db, "delta")
    key, other, client = aws.key(), aws.key(), aws.client("kms")
    for _ in range(2):
        assign_key(db, "delta", key)
        assert client.describe_key(KeyId="alias/kaimon-delta")["KeyMetadata"]["Arn"] == key
    create_tenant(db, "epsilon")
    client.create_alias(AliasName="alias/kaimon-epsilon", TargetKeyId=other)
    with pytest.raises(UnusableKeyError, match="alias/kaimon-epsilon"):
        assign_key(db, "epsilon", key := aws.key())
    client.update_alias(AliasName="alias/kaimon-epsilon", TargetKeyId=key)
    assert assign_key(db, "epsilon", key) == key, "mended, it goes on"


def test_the_key_that_wraps_everybodys_data_keys_is_no_tenants(aws: Any, db: Database, tenant: str) -> None:
    root = aws.key()
    db.settings = TenancySettings(home=db.settings.home, kms_key_id=root)
    db.keys.prepare()
    with pytest.raises(ValueError, match="wraps data keys of everybody"):
        assign_key(db, tenant, root)


def test_a_key_that_is_unknown_or_cannot_encrypt_is_refused(aws: Any, db: Database, tenant: str) -> None:
    client = aws.client("kms")
    signing = client.create_key(KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["Arn"]
    off = aws.key()
    client.disable_key(KeyId=off.rpartition("/")[2])
    for key, why in ((signing, "symmetric"), (off, "enabled"), ("nobodys", "NotFound")):
        with pytest.raises(UnusableKeyError, match=why):
            assign_key(db, tenant, key)
    assert key_of(db, tenant) is None


def test_a_deletion_is_scheduled_once_and_both_dates_are_told(aws: Any, db: Database, tenant: str) -> None:
    key = assign_key(db, tenant, aws.key())
    told = schedule_deletion(db, key)
    state = aws.client("kms").describe_key(KeyId=key)["KeyMetadata"]
    assert state["KeyState"] == "PendingDeletion"
    assert told["deleted_at"] == state["DeletionDate"].astimezone(db.clock().tzinfo).isoformat(timespec="seconds")
    assert schedule_deletion(db, key) == told


def test_an_erasure_ends_with_its_key_and_waits_for_a_kms_that_is_away(
    aws: Any, db: Database, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, other = assign_key(db, tenant, aws.key()), aws.key()
    lake, pipelines = LakeSettings(home=db.settings.home), PipelineSettings(home=db.settings.home)
    away = f"http://127.0.0.1:{_closed_port()}"
    with monkeypatch.context() as broken:
        broken.setenv("KAIMON_AWS_ENDPOINT_URL", away)
        with pytest.raises(KeysAwayError) as refused:
            erase_tenant(db, tenant, lake, pipelines, wait=lambda _seconds: None)
        assert redact(str(refused.value)) == str(refused.value)
    begun = get_erasure(db, tenant)
    assert begun is not None
    assert begun.finished_at is None
    receipt = erase_tenant(db, tenant, lake, pipelines, wait=lambda _seconds: None)
    done = get_erasure(db, tenant)
    assert done is not None
    (told,) = done.found["keys"]
    assert told.keys() == {"key", "scheduled_at", "deleted_at"}
    assert f'"key":"{key}"'.encode() in receipt.body
    assert told["scheduled_at"] == db.clock().isoformat(timespec="seconds")
    states = {which: aws.client("kms").describe_key(KeyId=which)["KeyMetadata"]["KeyState"] for which in (key, other)}
    assert states == {key: "PendingDeletion", other: "Enabled"}


def _closed_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
