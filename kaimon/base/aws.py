"""The only way to AWS: clients in the United States, under the role of whoever runs kaimon."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from kaimon.base.build import VERSION
from kaimon.base.regions import require_us_endpoint, require_us_region
from kaimon.base.settings import AwsSettings

_CONNECT_S: Final = 5
_READ_S: Final = 10
_ATTEMPTS: Final = 3
_S3_READ_S: Final = 30
_S3_ATTEMPTS: Final = 5
_BOTO3_IS_NOT_THREAD_SAFE: Final = threading.Lock()
_HINTS: Final = {"RequestTimeTooSkewed": "; set this machine's clock, which AWS compares with its own"}
_SESSIONS: Final[dict[tuple[object, ...], Any]] = {}


class AwsError(Exception):
    """AWS could not be asked, or said no: what was wanted, where, and why. It never holds a secret.

    `code` is what AWS calls it, empty if there was no answer.
    """

    code: str = ""


class AwsAwayError(AwsError):
    """Nobody answered, or AWS was overloaded: it may do so later."""


@dataclass(frozen=True)
class Credentials:
    """Credentials that end by themselves, of a role's session."""

    key: str
    secret: str = field(repr=False)
    token: str = field(repr=False)


def key_alias(tenant: str) -> str:
    """Return the alias of a tenant's KMS key: nobody has to look up which key is whose to write an object."""
    return f"alias/kaimon-{tenant}"


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


def aws_credentials(settings: AwsSettings | None = None) -> Credentials:
    """Return what the environment's role can show just now, for a library that asks AWS itself.

    They hold for ten minutes at least: boto3 fetches new ones before that.

    Raises:
        kaimon.base.regions.RegionError: no region is set, or one outside the United States.
        AwsError: there are no credentials, or they are a user's that never end.
    """
    settings = settings or AwsSettings()
    with _BOTO3_IS_NOT_THREAD_SAFE:
        session = _SESSIONS.get(where := surroundings(settings))
    if session is None:
        session = _SESSIONS.setdefault(where, aws_session(settings))
    with calling(f"credentials for AWS in {settings.aws_region}"):
        frozen = session.get_credentials().get_frozen_credentials()
    return Credentials(frozen.access_key, frozen.secret_key, frozen.token)


def surroundings(settings: AwsSettings) -> tuple[object, ...]:
    """Return all that decides whom a session speaks for, so that one session serves a process."""
    said = {name: value for name, value in os.environ.items() if name.startswith("AWS_") or name == "HOME"}
    return settings.aws_region, tuple(sorted(said.items()))


def endpoint_of(service: str, settings: AwsSettings) -> str | None:
    """Return the address of a service if it is not AWS's public one.

    Raises:
        kaimon.base.regions.RegionError: it lies outside the configured region, or none is set.
    """
    region = require_us_region(settings.aws_region)
    own = {"s3": settings.aws_s3_endpoint_url, "bedrock-runtime": settings.aws_bedrock_endpoint_url}
    endpoint = own.get(service) or settings.aws_endpoint_url
    return None if endpoint is None else require_us_endpoint(endpoint, region)


def aws_client(
    service: str,
    settings: AwsSettings | None = None,
    credentials: Credentials | None = None,
    *,
    read_s: float | None = None,
    attempts: int | None = None,
) -> Any:
    """Return boto3's client for a service, with bounded patience. It may be shared among threads.

    Args:
        service: as boto3 calls it: `kms`, `secretsmanager`, `s3`.
        settings: the region, and the endpoint if it is not AWS's own; from the environment if not given.
        credentials: of a session that was assumed; the environment's role if not given.
        read_s: how long an answer may take to begin, seconds; the service's usual if not given.
        attempts: how often a request is sent at most; the service's usual if not given.

    Raises:
        kaimon.base.regions.RegionError: no region is set, one outside the United States, or such an endpoint.
        AwsError: there are no credentials, or they are a user's that never end.
    """
    settings = settings or AwsSettings()
    region = require_us_region(settings.aws_region)
    endpoint = endpoint_of(service, settings)
    session: Any = aws_session(settings) if credentials is None else None
    import boto3
    from botocore.config import Config  # type: ignore[import-untyped]

    s3 = service == "s3"
    config = Config(
        connect_timeout=_CONNECT_S,
        read_timeout=read_s or (_S3_READ_S if s3 else _READ_S),
        retries={"mode": "standard", "total_max_attempts": attempts or (_S3_ATTEMPTS if s3 else _ATTEMPTS)},
        max_pool_connections=32 if s3 else 10,
        # Names of buckets are no names of hosts on a stand-in.
        s3={"addressing_style": "path" if endpoint else "virtual", "us_east_1_regional_endpoint": "regional"},
        # An address from the environment or a file would go around the check above.
        ignore_configured_endpoint_urls=True,
        user_agent_extra=f"kaimon/{VERSION}",
    )
    with _BOTO3_IS_NOT_THREAD_SAFE:
        if credentials is not None:
            session = boto3.Session(
                credentials.key, credentials.secret, aws_session_token=credentials.token, region_name=region
            )
        client: Any = session.client(service, endpoint_url=endpoint, config=config)
    # boto3 follows S3 to whatever region a bucket lies in; this is asked before every request that it sends.
    client.meta.events.register("before-send", partial(_stay, region, endpoint))
    return client


def _stay(region: str, endpoint: str | None, request: Any, **_: object) -> None:
    """Refuse a request that would go anywhere but to the region.

    Raises:
        kaimon.base.regions.RegionError: it would.
    """
    if endpoint is None or not str(request.url).startswith(endpoint):
        require_us_endpoint(str(request.url), region)


@contextmanager
def calling(what: str) -> Iterator[None]:
    """Turn what boto3 raises into an `AwsError` that begins with `what` was wanted and where.

    Raises:
        AwsAwayError: nobody answered, or AWS asks to come back later.
        AwsError: AWS said no.
    """
    from botocore import exceptions as boto  # type: ignore[import-untyped]
    from botocore.parsers import ResponseParserError  # type: ignore[import-untyped]

    try:
        yield
    except boto.ClientError as error:
        said = error.response.get("Error", {})
        code, status = said.get("Code", "unknown"), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        kind = AwsAwayError if status >= 500 or "Throttl" in code else AwsError
        refused = kind(f"{what}: AWS answered {code}: {said.get('Message') or 'nothing more'}{_HINTS.get(code, '')}")
        refused.code = code
        raise refused from error
    except (boto.HTTPClientError, boto.ConnectionError) as error:
        raise AwsAwayError(f"{what}: {error}") from error
    except boto.BotoCoreError as error:
        raise AwsError(f"{what}: {error}") from error
    except ResponseParserError as error:
        # Not what it raises elsewhere, and it repeats the answer.
        raise AwsAwayError(f"{what}: the answer cannot be read") from error
