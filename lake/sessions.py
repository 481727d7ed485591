"""A session of S3 that is one tenant's: the policy that leaves it nothing else, and how it is assumed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final

from kaimon.base.access import accessing
from kaimon.base.aws import Credentials, aws_client, calling, key_alias
from kaimon.base.settings import AwsSettings
from lake.buckets import bucket_of
from lake.settings import LakeSettings

DURATION_S: Final = 3600
"""The longest that AWS allows a role which another role assumes."""

_OBJECTS: Final = ("s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject")


def policy(tenant: str, settings: LakeSettings, region: str) -> dict[str, Any]:
    """Return the policy of a tenant's session: its folders in staging, lake and outbox, and its KMS key.

    A session may do what both this and the assumed role's own policy allow.
    """
    partition = "aws-us-gov" if region.startswith("us-gov-") else "aws"
    folders: dict[str, list[str]] = {}
    for url in (settings.staging_url, settings.lake_url, settings.outbox_url):
        if (found := bucket_of(url)) is not None:
            folders.setdefault(found.name, []).append(found.key(tenant))
    statements: list[dict[str, Any]] = []
    for bucket, below in folders.items():
        arn = f"arn:{partition}:s3:::{bucket}"
        objects = [f"{arn}/{folder}/*" for folder in below]
        statements += [
            {"Effect": "Allow", "Action": list(_OBJECTS), "Resource": objects},
            {
                "Effect": "Allow",
                "Action": "s3:ListBucket",
                "Resource": arn,
                "Condition": {"StringLike": {"s3:prefix": [f"{folder}/*" for folder in below]}},
            },
        ]
    if settings.s3_encryption == "tenant":
        statements.append(
            {
                "Effect": "Allow",
                "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
                "Resource": f"arn:{partition}:kms:{region}:*:key/*",
                "Condition": {"ForAnyValue:StringEquals": {"kms:ResourceAliases": key_alias(tenant)}},
            }
        )
    return {"Version": "2012-10-17", "Statement": statements}


def assume(tenant: str, settings: LakeSettings) -> tuple[Credentials, datetime]:
    """Return a new session of the tenants' role that is `tenant`'s alone, and when it ends.

    Raises:
        ValueError: no role is set.
        kaimon.base.aws.AwsError: AWS refuses, or does not answer.
    """
    if settings.s3_tenant_role is None:
        raise ValueError("KAIMON_S3_TENANT_ROLE is not set")
    aws = AwsSettings(home=settings.home)
    said = json.dumps(policy(tenant, settings, aws.aws_region or ""), separators=(",", ":"))
    with accessing("storage", "session.assume", tenant), calling(f"a session of {settings.s3_tenant_role}"):
        client = aws_client("sts", aws)
        try:
            answer = client.assume_role(
                RoleArn=settings.s3_tenant_role,
                RoleSessionName=f"kaimon-{tenant}",
                Policy=said,
                DurationSeconds=DURATION_S,
            )
        finally:
            client.close()
    found = answer["Credentials"]
    ends: datetime = found["Expiration"]
    return Credentials(found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"]), ends.astimezone(UTC)
