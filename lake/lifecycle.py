"""Lifecycle rules of the stores' buckets in S3, as data, and whether a bucket has exactly these.

They are a backstop: what must go goes by retention and erasure, which say so on the audit chain. What they do alone is
to remove what S3 keeps behind objects that were replaced or deleted, and uploads that nobody completed.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import unquote, urlsplit

from kaimon.base.access import accessing
from kaimon.base.aws import AwsError, aws_client, calling
from lake.settings import STORES, LakeSettings, StoreName

Rule = dict[str, Any]
"""One rule as S3's API has it."""

_ABANDONED: Final[Rule] = {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}}


def _hidden(days: int) -> Rule:
    return {"NoncurrentVersionExpiration": {"NoncurrentDays": days}}


RULES: Final[dict[StoreName, dict[str, Rule]]] = {
    "staging": {
        "landed": {"Expiration": {"Days": 60}, **_hidden(1), **_ABANDONED},
    },
    "lake": {
        "hidden": {"Expiration": {"ExpiredObjectDeleteMarker": True}, **_hidden(7), **_ABANDONED},
    },
    # Nothing there ever expires by age: receipts and signed heads are to be found for as long as there is a bucket.
    "audit": {"abandoned": {**_ABANDONED}},
    "public": {"hidden": {"Expiration": {"ExpiredObjectDeleteMarker": True}, **_hidden(30), **_ABANDONED}},
    "outbox": {"hidden": {"Expiration": {"ExpiredObjectDeleteMarker": True}, **_hidden(7), **_ABANDONED}},
}
"""By store and name. Staged segments: 60 days, when retention's 14 after landing have long passed."""


def wanted(settings: LakeSettings) -> dict[str, list[Rule]]:
    """Return the rules of each bucket that holds a store, by the bucket's name; none for stores on this machine."""
    buckets: dict[str, list[Rule]] = {}
    for store in STORES:
        parts = urlsplit(settings.url(store))
        if parts.scheme != "s3":
            continue
        prefix = unquote(parts.path).strip("/")
        for name, rule in RULES[store].items():
            of_bucket = buckets.setdefault(parts.netloc, [])
            where = {"ID": f"kaimon-{store}-{name}", "Status": "Enabled"}
            of_bucket.append(where | {"Filter": {"Prefix": f"{prefix}/" if prefix else ""}} | rule)
    return buckets


def differences(settings: LakeSettings, client: Any = None) -> list[str]:
    """Return in what the buckets' rules are not those of `RULES`, a line each; none: all is well.

    A rule that is not ours is a difference too: it could delete what must be kept.

    Raises:
        AwsError: a bucket cannot be asked.
    """
    found: list[str] = []
    for bucket, rules in wanted(settings).items():
        there = {rule.get("ID", "without a name"): rule for rule in _read(bucket, client or aws_client("s3"))}
        ours = {rule["ID"]: rule for rule in rules}
        found += [f"{bucket}: rule {name} is missing" for name in sorted(ours.keys() - there.keys())]
        found += [f"{bucket}: rule {name} is not ours" for name in sorted(there.keys() - ours.keys())]
        for name in sorted(ours.keys() & there.keys()):
            said = _plain(there[name])
            if said != ours[name]:
                parts = sorted(key for key in said.keys() | ours[name].keys() if said.get(key) != ours[name].get(key))
                found.append(f"{bucket}: rule {name} says something else of {', '.join(parts)}")
    return found


def write(settings: LakeSettings, client: Any = None) -> list[str]:
    """Give each bucket exactly our rules, in the place of any that it has; return the buckets.

    Raises:
        AwsError: a bucket refused.
    """
    buckets = wanted(settings)
    for bucket, rules in buckets.items():
        with (
            accessing("storage", "bucket.lifecycle.write", object=bucket),
            calling(f"lifecycle rules of s3://{bucket}"),
        ):
            (client or aws_client("s3")).put_bucket_lifecycle_configuration(
                Bucket=bucket, LifecycleConfiguration={"Rules": rules}
            )
    return sorted(buckets)


def _read(bucket: str, client: Any) -> list[Rule]:
    try:
        with accessing("storage", "bucket.lifecycle.read", object=bucket), calling(f"lifecycle rules of s3://{bucket}"):
            rules: list[Rule] = client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    except AwsError as error:
        if "NoSuchLifecycleConfiguration" in str(error):
            return []
        raise
    return rules


def _plain(rule: Rule) -> Rule:
    """Return a rule without what S3 adds by itself."""
    said = {name: value for name, value in rule.items() if value not in (None, [], {})}
    if "Prefix" in said:
        said["Filter"] = {"Prefix": said.pop("Prefix")}
    if not said.get("Filter"):
        said["Filter"] = {"Prefix": ""}
    return said
