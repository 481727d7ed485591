"""What runs print, in S3: Dagster's own manager with our client, and a tenant's lines out of it at its erasure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from typing import Any
from urllib.parse import unquote, urlsplit

from dagster._serdes import ConfigurableClassData
from dagster_aws.s3.compute_log_manager import S3ComputeLogManager

from kaimon.base.aws import calling
from kaimon.base.settings import AwsSettings
from lake.clients import s3_client
from lake.holdings import Held, Holdings, holdings
from lake.settings import LakeSettings
from pipelines.retention.lines import blanked, naming

_STORE = "compute-logs"
_FOLDER = "storage"
"""Dagster's own name for what is below the prefix."""


class LogsInS3(S3ComputeLogManager):
    """Dagster's manager with our client (region, credentials, patience), and a deletion that leaves no version.

    A step's output lies in `folder` until the step has ended, and is then in S3 alone.
    """

    def __init__(self, url: str, folder: str, inst_data: ConfigurableClassData | None = None) -> None:
        """Write below `url`, `s3://bucket/prefix`."""
        parts = urlsplit(url)
        region = AwsSettings().aws_region
        super().__init__(parts.netloc, folder, inst_data, prefix=unquote(parts.path).strip("/"), region=region)
        self._url = url
        self._s3_session = s3_client(None, LakeSettings())

    def delete_logs(self, log_key: Sequence[str] | None = None, prefix: Sequence[str] | None = None) -> None:
        """Delete what a step or a run printed, for good; see Dagster.

        Raises:
            lake.stores.StoreError: something is left.
        """
        if prefix is None:
            super().delete_logs(log_key=log_key)
            return
        self.local_manager.delete_logs(prefix=prefix)
        holdings(self._url, _STORE).erase("/".join((_FOLDER, *prefix)))


def blank_objects(url: str, tenant: str) -> int:
    """Blank each line that names a tenant in all that runs have printed, older versions of it deleted; return how many.

    Args:
        url: `s3://bucket/prefix`, where it lies.
        tenant: whose lines.

    Raises:
        lake.stores.StoreError: a listing or a deletion failed.
        kaimon.base.aws.AwsError: an object cannot be read or written. Calling again goes on.
    """
    client, store, names = s3_client(None, LakeSettings()), holdings(url, _STORE), naming(tenant)
    return sum(
        _blank(client, store, url, key, list(versions), names)
        for key, versions in groupby(list(store.held(_FOLDER)), lambda one: one.key)
    )


def _blank(  # noqa: PLR0917 - one object, and how to reach it
    client: Any, store: Holdings, url: str, key: str, versions: list[Held], names: re.Pattern[bytes]
) -> int:
    parts = urlsplit(url)
    where = {"Bucket": parts.netloc, "Key": f"{unquote(parts.path).strip('/')}/{key}"}
    newest = max(versions, key=lambda one: one.modified)
    with calling(f"reading {url}/{key}"):
        try:
            body = client.get_object(**where)["Body"].read()
        except client.exceptions.NoSuchKey:
            body = None
    if body is None:  # deleted, and hidden versions are left of it
        store.delete(versions)
        return 0
    text, lines = blanked(body, names)
    if lines:
        with calling(f"writing {url}/{key}"):
            put = client.put_object(**where, Body=text, ContentType="text/plain")
        newest = Held(key, len(text), newest.modified, put.get("VersionId"))
    # Without versions there is only the one just written, whatever it is called.
    if newest.version not in {None, "null"}:
        store.delete(one for one in versions if one.version != newest.version)
    return lines
