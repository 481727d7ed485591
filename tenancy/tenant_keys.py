"""A tenant's own KMS key, with which storage encrypts what is the tenant's: an erasure schedules its deletion.

When it is gone, no copy of an object that anybody kept can be read.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import select, update

from kaimon.base.aws import key_alias
from tenancy.audit import append
from tenancy.database import Database
from tenancy.keys import UnusableKeyError
from tenancy.roots import check_place, kms_client
from tenancy.tables import KEYS, TENANTS

WINDOW_DAYS: Final = 7
"""How long KMS keeps a key whose deletion is scheduled: the least that it allows."""
_PENDING: Final = "PendingDeletion"


def assign_key(db: Database, tenant_id: str, key_id: str) -> str:
    """Make a KMS key a tenant's own, give it the alias by which S3 is told of it, and return its ARN.

    Nothing is encrypted anew.

    Raises:
        ValueError: there is no such tenant, it has another key, or the key is somebody else's or wraps our data keys.
        UnusableKeyError: KMS does not know the key, it is no customer's key that encrypts, or it lies elsewhere.
        KeysAwayError: KMS does not answer.
    """
    with kms_client(db.settings, f"KMS key {key_id}") as client:
        told = client.describe_key(KeyId=key_id)["KeyMetadata"]
    arn = str(told["Arn"])
    check_place(arn, db.settings)
    if (told["KeyState"], told["KeyManager"], told["KeySpec"]) != ("Enabled", "CUSTOMER", "SYMMETRIC_DEFAULT"):
        raise UnusableKeyError(f"KMS key {arn}: want an enabled, symmetric key that AWS does not manage")
    with db.transaction() as session:
        if session.execute(select(KEYS.c.key_id).where(KEYS.c.wrapped_by == arn)).first() is not None:
            raise ValueError(f"KMS key {arn} wraps data keys of everybody: its deletion would end them all")
        found = session.execute(select(TENANTS.c.tenant_id, TENANTS.c.kms_key).with_for_update()).all()
        keys = {tenant: key for tenant, key in found}  # noqa: C416 - rows are no pairs to mypy
        if tenant_id not in keys:
            raise ValueError(f"there is no tenant {tenant_id!r}")
        if keys[tenant_id] not in {None, arn}:
            raise ValueError(f"tenant {tenant_id!r} has a key already: {keys[tenant_id]}")
        if any(key == arn and tenant != tenant_id for tenant, key in keys.items()):
            raise ValueError(f"KMS key {arn} is another tenant's")
        if keys[tenant_id] is None:
            session.execute(update(TENANTS).where(TENANTS.c.tenant_id == tenant_id).values(kms_key=arn))
            append(db, session, tenant_id, "key.assign", tenant_id, key=arn)
    _name(db, tenant_id, arn)
    return arn


def _name(db: Database, tenant_id: str, arn: str) -> None:
    """Give a tenant's key its alias, unless it has it; doing the assignment again goes on where this failed."""
    alias = key_alias(tenant_id)
    with kms_client(db.settings, f"alias {alias} of KMS key {arn}") as client:
        try:
            client.create_alias(AliasName=alias, TargetKeyId=arn)
        except client.exceptions.AlreadyExistsException:
            if client.describe_key(KeyId=alias)["KeyMetadata"]["Arn"] != arn:
                raise


def key_of(db: Database, tenant_id: str) -> str | None:
    """Return the ARN of a tenant's own key, None if it has none."""
    with db.reading() as session:
        return session.execute(select(TENANTS.c.kms_key).where(TENANTS.c.tenant_id == tenant_id)).scalar()


def schedule_deletion(db: Database, arn: str) -> dict[str, Any]:
    """Let KMS delete a key, and return `key`, `scheduled_at` and `deleted_at`, as text; doing it again changes nothing.

    From now on nothing can be encrypted or decrypted with it; until `deleted_at` KMS can be told otherwise.

    Raises:
        UnusableKeyError: KMS says no.
        KeysAwayError: KMS does not answer.
    """
    check_place(arn, db.settings)
    with kms_client(db.settings, f"deletion of KMS key {arn}") as client:
        told = client.describe_key(KeyId=arn)["KeyMetadata"]
        if told["KeyState"] != _PENDING:
            told = client.schedule_key_deletion(KeyId=told["KeyId"], PendingWindowInDays=WINDOW_DAYS)
    return {"key": arn, "scheduled_at": _text(db.clock()), "deleted_at": _text(told["DeletionDate"])}


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")
