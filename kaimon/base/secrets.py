"""Settings that are secret may name a secret of AWS Secrets Manager; it is read once a process, at start-up."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, Final

from pydantic import SecretStr

from kaimon.base.aws import aws_client, calling
from kaimon.base.regions import RegionError, require_us_region
from kaimon.base.settings import AwsSettings

REFERENCE: Final = "aws-secret:"
"""What a reference begins with: `aws-secret:NAME`, or `aws-secret:NAME#FIELD` for one field of a JSON object."""


def resolved(setting: SecretStr, aws: AwsSettings) -> str:
    """Return a secret setting's value, or what the secret holds that it names.

    Raises:
        ValueError: the reference names nothing, a secret in another region, or one without such a field.
        kaimon.base.aws.AwsError: the secret cannot be read. No error holds anything of what a secret says.
    """
    text = setting.get_secret_value()
    if not text.startswith(REFERENCE):
        return text
    name, _, field = text.removeprefix(REFERENCE).partition("#")
    if not name:
        raise ValueError(f"{text!r} names no secret; want {REFERENCE}NAME or {REFERENCE}NAME#FIELD")
    if name.startswith("arn:"):
        _require_place(name, aws)
    value = _read(name, aws.aws_region, aws.aws_endpoint_url)
    return _field(name, field, value) if field else value


def _require_place(arn: str, aws: AwsSettings) -> None:
    region = require_us_region(arn.split(":")[3] if arn.count(":") > 3 else None)
    if region != aws.aws_region:
        raise RegionError(f"secret {arn} is not in KAIMON_AWS_REGION, which is {aws.aws_region or 'not set'}")


# Kept as long as the process lives, as every setting is.
@lru_cache(maxsize=64)
def _read(name: str, region: str | None, endpoint: str | None) -> str:
    aws = AwsSettings(aws_region=region, aws_endpoint_url=endpoint)
    client = aws_client("secretsmanager", aws)
    with calling(f"secret {name} in {aws.aws_region}"):
        answer: dict[str, Any] = client.get_secret_value(SecretId=name)
    text = answer.get("SecretString")
    if not isinstance(text, str):
        raise ValueError(f"secret {name} holds bytes, want text")  # noqa: TRY004 - what an operator has set
    return text


def _field(name: str, field: str, value: str) -> str:
    try:
        found = json.loads(value)
    except ValueError:
        # Not chained: the decoder's error holds the text.
        raise ValueError(f"secret {name} is no JSON object, so it has no field {field!r}") from None
    part = found.get(field) if isinstance(found, dict) else None
    if not isinstance(part, str | int) or isinstance(part, bool):
        raise ValueError(f"secret {name} has no field {field!r} that is text")  # noqa: TRY004 - as above
    return str(part)
