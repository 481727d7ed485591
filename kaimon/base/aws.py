"""The only way to AWS: clients in the United States, under the role of whoever runs kaimon."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from kaimon.base.build import VERSION
from kaimon.base.regions import require_us_endpoint, require_us_region
from kaimon.base.settings import AwsSettings

_CONNECT_S: Final = 5
_READ_S: Final = 10
_ATTEMPTS: Final = 3
_BOTO3_IS_NOT_THREAD_SAFE: Final = threading.Lock()


class AwsError(Exception):
    """AWS could not be asked, or said no: what was wanted, where, and why. It never holds a secret."""


class AwsAwayError(AwsError):
    """Nobody answered, or AWS was overloaded: it may do so later."""


def aws_session(settings: AwsSettings | None = None) -> Any:
    """Return a `boto3.Session` in the configured region, for a library that takes one.

    Its credentials are the environment's: a role of the container, the instance or the pod, or a session that somebody
    has assumed. No setting of ours holds any.

    Raises:
        kaimon.base.regions.RegionError: no region is set, or one outside the United States.
        AwsError: there are no credentials, or they are a user's that never end.
    """
    settings = settings or AwsSettings()
    region = require_us_region(settings.aws_region)
    import boto3  # type: ignore[import-untyped]

    with _BOTO3_IS_NOT_THREAD_SAFE, calling(f"credentials for AWS in {region}"):
        session = boto3.Session(region_name=region)
        credentials = session.get_credentials()
        if credentials is None:
            raise AwsError(f"credentials for AWS in {region}: the environment has none; give this machine a role")
        if credentials.get_frozen_credentials().token is None:
            raise AwsError(
                f"credentials for AWS in {region}: a user's access key (by {credentials.method}), which never ends; "
                "want a role's"
            )
    return session


def aws_client(service: str, settings: AwsSettings | None = None) -> Any:
    """Return boto3's client for a service, with bounded patience. It may be shared among threads.

    Args:
        service: as boto3 calls it: `kms`, `secretsmanager`, `s3`.
        settings: the region, and the endpoint if it is not AWS's own; from the environment if not given.

    Raises:
        kaimon.base.regions.RegionError: no region is set, one outside the United States, or such an endpoint.
        AwsError: there are no credentials, or they are a user's that never end.
    """
    settings = settings or AwsSettings()
    region = require_us_region(settings.aws_region)
    endpoint = settings.aws_endpoint_url
    if endpoint is not None:
        require_us_endpoint(endpoint, region)
    session = aws_session(settings)
    from botocore.config import Config  # type: ignore[import-untyped]

    config = Config(
        connect_timeout=_CONNECT_S,
        read_timeout=_READ_S,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        # An address from the environment or a file would go around the check above.
        ignore_configured_endpoint_urls=True,
        user_agent_extra=f"kaimon/{VERSION}",
    )
    with _BOTO3_IS_NOT_THREAD_SAFE:
        return session.client(service, endpoint_url=endpoint, config=config)


@contextmanager
def calling(what: str) -> Iterator[None]:
    """Turn what boto3 raises into an `AwsError` that begins with `what` was wanted and where.

    Raises:
        AwsAwayError: nobody answered, or AWS asks to come back later.
        AwsError: AWS said no.
    """
    from botocore import exceptions as boto  # type: ignore[import-untyped]

    try:
        yield
    except boto.ClientError as error:
        said = error.response.get("Error", {})
        code, status = said.get("Code", "unknown"), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        kind = AwsAwayError if status >= 500 or "Throttl" in code else AwsError
        raise kind(f"{what}: AWS answered {code}: {said.get('Message') or 'nothing more'}") from error
    except (boto.HTTPClientError, boto.ConnectionError) as error:
        raise AwsAwayError(f"{what}: {error}") from error
    except boto.BotoCoreError as error:
        raise AwsError(f"{what}: {error}") from error
