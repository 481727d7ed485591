"""A store in S3: put-if-absent by a conditional put, in parts when it is large, tried again when S3 is overloaded.

An object bears the name of the very put that made it. So when an answer is lost, and the put, tried again, finds the
key taken, it is known whether by itself: of two writers of one key exactly one succeeds, whatever the network does.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC
from itertools import groupby, islice
from typing import Any, Final

from kaimon.base.aws import AwsError, calling
from kaimon.base.regions import RegionError
from lake.buckets import Bucket, encryption, tenant_of
from lake.clients import s3_client
from lake.settings import LakeSettings, StoreName
from lake.stores import AlreadyExistsError, MissingError, StoredObject, StoreError, check_key

PART_BYTES: Final = 32 << 20
"""What is larger is put in parts of this size, each tried again for itself."""

_PARTS_AT_ONCE: Final = 4
_AT_ONCE: Final = 1000
"""Objects that S3 deletes in one call."""
_ATTEMPTS: Final = 5
_MARK: Final = "kaimon-put"
_RACING: Final = {"ConditionalRequestConflict", "OperationAborted"}
_GONE: Final = {"NoSuchKey", "NotFound", "404"}
_DENIED: Final = {"AccessDenied", "403"}


class S3Store:
    """A folder of a bucket, as `lake.stores.Store`."""

    def __init__(self, name: StoreName, bucket: Bucket, settings: LakeSettings, part_bytes: int = PART_BYTES) -> None:
        """Open a store.

        Args:
            name: what it is called; it decides whether its folders are tenants.
            bucket: where it lies.
            settings: as whom it is asked, and how it is encrypted.
            part_bytes: what is larger is put in parts of this size; S3 takes none below 5 MiB.
        """
        self.bucket = bucket
        self._name, self._settings, self._part_bytes = name, settings, part_bytes

    def put_new(self, key: str, data: bytes) -> None:
        """See `Store`."""
        client, mark = self._client(check_key(key)), uuid.uuid4().hex
        put = self._put if len(data) <= self._part_bytes else self._put_parts
        how = {"Metadata": {_MARK: mark}} | encryption(tenant_of(self._name, key), self._settings)
        for attempt in range(_ATTEMPTS):
            try:
                with calling(f"put {self._told(key)}"):
                    put(client, key, data, how)
            except AwsError as error:
                if error.code in _RACING and attempt < _ATTEMPTS - 1:
                    # Another's put of this key is under way, and S3 does not say yet how that ends.
                    _pause(attempt)
                    continue
                # An upload in parts that was completed is gone.
                if error.code not in {"PreconditionFailed", "NoSuchUpload"}:
                    raise StoreError(str(error)) from error
                if self._mark(client, key) == mark:
                    return
                if error.code == "NoSuchUpload":
                    raise StoreError(str(error)) from error
                raise AlreadyExistsError(key) from error
            return

    def get(self, key: str) -> bytes:
        """See `Store`."""
        client = self._client(check_key(key))
        for attempt in range(_ATTEMPTS):
            try:
                with calling(f"get {self._told(key)}"):
                    body = client.get_object(**self._where(key))["Body"]
            except AwsError as error:
                if error.code in _GONE or (error.code in _DENIED and not self._is_listed(client, key)):
                    raise MissingError(key) from error
                raise StoreError(str(error)) from error
            try:
                with calling(f"get {self._told(key)}"), body:
                    return bytes(body.read())
            except AwsError as error:
                # boto3 tries again until an answer begins, not when it breaks off.
                if attempt == _ATTEMPTS - 1:
                    raise StoreError(str(error)) from error
                _pause(attempt)
        raise AssertionError("the last attempt returns or raises")

    def list(self, prefix: str, start_after: str | None = None) -> Iterator[StoredObject]:
        """See `Store`."""
        where = self.bucket.key(f"{check_key(prefix)}/" if prefix else "")
        after = {} if start_after is None else {"StartAfter": self.bucket.key(start_after)}
        with self._asking(f"list {self._told(prefix)}"):
            pages = self._client(f"{prefix}/").get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.bucket.name, Prefix=where, **after):
                for one in page.get("Contents", []):
                    key = one["Key"].removeprefix(self.bucket.prefix)
                    yield StoredObject(key, one["Size"], one["LastModified"].astimezone(UTC))

    def prefixes(self, prefix: str) -> Sequence[str]:
        """See `Store`."""
        where = self.bucket.key(f"{check_key(prefix)}/" if prefix else "")
        with self._asking(f"list {self._told(prefix)}"):
            pages = self._client(f"{prefix}/").get_paginator("list_objects_v2")
            found = pages.paginate(Bucket=self.bucket.name, Prefix=where, Delimiter="/")
            return [
                one["Prefix"].removeprefix(where).rstrip("/")
                for page in found
                for one in page.get("CommonPrefixes", [])
            ]

    def delete(self, keys: Iterable[str]) -> None:
        """See `Store`."""
        # Whose they are decides as whom S3 is asked.
        for _, group in groupby(sorted(keys), key=lambda key: tenant_of(self._name, key)):
            while some := list(islice(group, _AT_ONCE)):
                objects = [{"Key": self.bucket.key(check_key(key))} for key in some]
                with self._asking(f"delete {len(some)} objects of {self._told('')}"):
                    answer = self._client(some[0]).delete_objects(
                        Bucket=self.bucket.name, Delete={"Objects": objects, "Quiet": True}
                    )
                if failed := answer.get("Errors"):
                    raise StoreError(f"delete: {len(failed)} objects are left, the first by {failed[0].get('Code')}")

    def require_region(self) -> None:
        """See that the bucket lies where we think it does; a region's own endpoint answers for its buckets alone.

        Raises:
            kaimon.base.regions.RegionError: it lies elsewhere.
            StoreError: it cannot be asked.
        """
        client = self._client("")
        with self._asking(f"look for bucket {self.bucket.name}"):
            found = client.head_bucket(Bucket=self.bucket.name).get("BucketRegion")
        if found and found != client.meta.region_name:
            raise RegionError(f"bucket {self.bucket.name} lies in {found}, not in {client.meta.region_name}")

    def _put(self, client: Any, key: str, data: bytes, how: dict[str, Any]) -> None:
        client.put_object(**self._where(key), Body=data, IfNoneMatch="*", **how)

    def _put_parts(self, client: Any, key: str, data: bytes, how: dict[str, Any]) -> None:
        where = self._where(key)
        upload = {"UploadId": client.create_multipart_upload(**where, **how)["UploadId"]}
        view = memoryview(data)

        def put(number: int) -> dict[str, Any]:
            part = view[(number - 1) * self._part_bytes : number * self._part_bytes]
            answer = client.upload_part(**where, **upload, PartNumber=number, Body=bytes(part))
            return {"PartNumber": number, "ETag": answer["ETag"]}

        try:
            with ThreadPoolExecutor(_PARTS_AT_ONCE, thread_name_prefix="s3-part") as workers:
                parts = list(workers.map(put, range(1, -(-len(data) // self._part_bytes) + 1)))
            client.complete_multipart_upload(**where, **upload, MultipartUpload={"Parts": parts}, IfNoneMatch="*")
        except BaseException:
            # Parts that no object consists of are paid for until somebody aborts them: at last the bucket's own rule.
            with suppress(Exception):
                client.abort_multipart_upload(**where, **upload)
            raise

    def _mark(self, client: Any, key: str) -> str | None:
        """Return which put made the object that is there."""
        with self._asking(f"look at {self._told(key)}"):
            found: str | None = client.head_object(**self._where(key))["Metadata"].get(_MARK)
        return found

    def _is_listed(self, client: Any, key: str) -> bool:
        """Say whether an object is there; who may list below one folder only is refused one that is not there."""
        with self._asking(f"look for {self._told(key)}"):
            found = client.list_objects_v2(Bucket=self.bucket.name, Prefix=self.bucket.key(key), MaxKeys=1)
        return any(one["Key"] == self.bucket.key(key) for one in found.get("Contents", []))

    def _client(self, key: str) -> Any:
        return s3_client(tenant_of(self._name, key), self._settings)

    def _where(self, key: str) -> dict[str, str]:
        return {"Bucket": self.bucket.name, "Key": self.bucket.key(key)}

    def _told(self, key: str) -> str:
        return f"s3://{self.bucket.name}/{self.bucket.key(key)}"

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        """Turn what AWS answers into what a store says."""
        try:
            with calling(what):
                yield
        except AwsError as error:
            raise StoreError(str(error)) from error


def _pause(attempt: int) -> None:
    time.sleep(random.uniform(0, 0.1 * 2**attempt))  # noqa: S311 - jitter, no secret
