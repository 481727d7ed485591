"""As whom S3 is asked: the environment's role, or a session that is one tenant's, kept while it may be used."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from kaimon.base.aws import AwsError, Credentials, aws_client, aws_credentials, endpoint_of, surroundings
from kaimon.base.regions import require_us_region
from kaimon.base.settings import AwsSettings
from lake.buckets import bucket_of, encryption
from lake.sessions import assume
from lake.settings import LakeSettings
from lake.stores import StoreError

_LEFT: Final = timedelta(minutes=15)
"""A session that ends sooner is not begun to be used: what is read through one handle ends in that time."""
_NEVER: Final = datetime.max.replace(tzinfo=UTC)


@contextmanager
def _asking() -> Iterator[None]:
    try:
        yield
    except AwsError as error:
        raise StoreError(str(error)) from error


class _Cache:
    """What speaks for whom, for as long as it may."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[tuple[object, ...], tuple[Any, datetime]] = {}

    def get(self, key: tuple[object, ...], make: Callable[[], tuple[Any, datetime]]) -> Any:
        with self._lock:
            found = self._found.get(key)
        if found is not None and found[1] > datetime.now(UTC) + _LEFT:
            return found[0]
        value, ends = make()
        with self._lock:
            self._found[key] = value, ends
        return value


_SESSIONS: Final = _Cache()
_CLIENTS: Final = _Cache()


def _key(settings: LakeSettings, aws: AwsSettings, tenant: str | None) -> tuple[object, ...]:
    """Return all that decides as whom S3 is asked, and what the session may touch."""
    role, where = settings.s3_tenant_role, (surroundings(aws), aws.aws_endpoint_url, aws.aws_s3_endpoint_url)
    if role is None or tenant is None:
        return where
    return *where, tenant, role, settings.s3_encryption, settings.staging_url, settings.lake_url, settings.outbox_url


def _session(tenant: str | None, settings: LakeSettings) -> tuple[Credentials | None, datetime]:
    """Return the tenant's session and its end; no session where the environment's role does everything."""
    if tenant is None or settings.s3_tenant_role is None:
        return None, _NEVER
    aws = AwsSettings(home=settings.home)

    def make() -> tuple[Any, datetime]:
        with _asking():
            credentials, ends = assume(tenant, settings)
        return (credentials, ends), ends

    found: tuple[Credentials, datetime] = _SESSIONS.get(_key(settings, aws, tenant), make)
    return found


def s3_client(tenant: str | None, settings: LakeSettings) -> Any:
    """Return a client of S3 that asks as whoever may touch the tenant's objects; None: those that are no tenant's.

    Raises:
        kaimon.base.regions.RegionError: no region is set, or one outside the United States.
        lake.stores.StoreError: there are no credentials, or the tenant's session is refused.
    """
    aws = AwsSettings(home=settings.home)

    def make() -> tuple[Any, datetime]:
        credentials, ends = _session(tenant, settings)
        with _asking():
            return aws_client("s3", aws, credentials), ends

    return _CLIENTS.get(_key(settings, aws, tenant), make)


def delta_options(tenant: str, settings: LakeSettings) -> dict[str, str] | None:
    """Return what Delta's and Polars' own clients must know to reach a tenant's tables; None if they are not in S3.

    Raises:
        kaimon.base.regions.RegionError: no region is set, or one outside the United States.
        lake.stores.StoreError: there are no credentials, or the tenant's session is refused.
    """
    if bucket_of(settings.lake_url) is None:
        return None
    aws = AwsSettings(home=settings.home)
    with _asking():
        credentials = _session(tenant, settings)[0] or aws_credentials(aws)
    options = {
        "aws_region": require_us_region(aws.aws_region),
        "aws_access_key_id": credentials.key,
        "aws_secret_access_key": credentials.secret,
        "aws_session_token": credentials.token,
        # A commit is one put of an object that is not there; no table in DynamoDB.
        "aws_conditional_put": "etag",
        "connect_timeout": "5s",
        "timeout": "60s",
        "max_retries": "5",
        "retry_timeout": "60s",
    }
    if (endpoint := endpoint_of("s3", aws)) is not None:
        options |= {"aws_endpoint": endpoint, "aws_virtual_hosted_style_request": "false"}
        options |= {"aws_allow_http": str(endpoint.startswith("http:")).lower()}
    if how := encryption(tenant, settings):
        options["aws_server_side_encryption"] = how["ServerSideEncryption"]
        options["aws_sse_kms_key_id"] = how["SSEKMSKeyId"]
    return options


def polars_options(options: Mapping[str, str] | None) -> dict[str, Any]:
    """Return what a scan by Polars must be told, from `delta_options`, as its arguments."""
    # The one option that both know and read differently.
    return {"storage_options": None if options is None else {**options, "max_retries": int(options["max_retries"])}}
