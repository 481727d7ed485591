"""A tenant's session in S3: judged by a real server, it reaches the tenant's folders and nobody else's."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import polars as pl
import pytest
from botocore.exceptions import ClientError  # type: ignore[import-untyped]

from lake.clients import delta_options, s3_client
from lake.commits import Writer
from lake.frames import frame_schema
from lake.query import run_query
from lake.reads import scan
from lake.settings import LakeSettings
from lake.stores import MissingError, StoreError, open_store
from lake.tables import create_table, open_table

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
ANSWER = """<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
<AccessKeyId>{AWS_ACCESS_KEY_ID}</AccessKeyId><SecretAccessKey>{AWS_SECRET_ACCESS_KEY}</SecretAccessKey>
<SessionToken>{AWS_SESSION_TOKEN}</SessionToken><Expiration>{ends}</Expiration>
</Credentials></AssumeRoleResult></AssumeRoleResponse>"""


class Sts:
    """Hands out sessions of the S3 server's role with the policy that was asked for, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []


@pytest.fixture
def sts(s3: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Sts]:
    """What answers AssumeRole; every tenant's session is asked of it."""
    told = Sts()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            asked = {name: value for name, [value] in form.items()}
            told.asked.append(asked)
            ends = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
            answer = ANSWER.format(**s3.session(asked["Policy"], asked["RoleSessionName"]), ends=ends).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        monkeypatch.setenv("KAIMON_HOME", str(tmp_path))
        monkeypatch.setenv("KAIMON_AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("KAIMON_S3_TENANT_ROLE", s3.role)
        yield told
        server.shutdown()
        thread.join(30)


def rows() -> pl.DataFrame:
    values: dict[Any, Any] = {pl.String: "x", pl.Date: NOON.date(), pl.Datetime("us", "UTC"): NOON}
    schema = frame_schema("deliveries")
    return pl.DataFrame([{name: values.get(kind, 1) for name, kind in schema.items()}], schema=schema)


def test_everything_that_is_one_tenants_is_done_in_its_own_session(sts: Sts, s3: Any) -> None:
    settings = LakeSettings()
    for tenant in ("acme", "beta"):
        open_store("staging").put_new(f"{tenant}/n1/1", b"x")
        Writer(tenant, 1, settings).append("deliveries", rows())
        assert scan(tenant, "deliveries", date(2026, 3, 4), date(2026, 3, 4)).collect().height == 1
        assert [one.key for one in open_store("staging").list(tenant)] == [f"{tenant}/n1/1"]
    found = run_query("acme", "SELECT count(*) AS n FROM deliveries", NOON - timedelta(1), NOON + timedelta(1))
    assert found.rows() == [[1]]
    assert [one["RoleSessionName"] for one in sts.asked] == ["kaimon-acme", "kaimon-beta"], "kept while it may be used"
    assert {one["RoleArn"] for one in sts.asked} == {s3.role}
    assert "beta" not in sts.asked[0]["Policy"]
    assert open_store("staging").prefixes("") == ["acme", "beta"], "the environment's own role sees all"


def test_under_one_tenants_session_anothers_folder_cannot_be_listed_read_or_written(sts: Sts, s3: Any) -> None:
    settings = LakeSettings()
    for tenant in ("acme", "acme-2"):
        open_store("staging").put_new(f"{tenant}/n1/1", b"x")
        Writer(tenant, 1, settings).append("deliveries", rows())
    client, bucket = s3_client("acme", settings), s3.stores_url.split("/")[2]
    assert client.get_object(Bucket=bucket, Key="kaimon/staging/acme/n1/1")["Body"].read() == b"x"
    for asked in (
        lambda: client.get_object(Bucket=bucket, Key="kaimon/staging/acme-2/n1/1"),
        lambda: client.list_objects_v2(Bucket=bucket, Prefix="kaimon/staging/acme-2/"),
        lambda: client.list_objects_v2(Bucket=bucket, Prefix="kaimon/lake/acme"),
        lambda: client.list_objects_v2(Bucket=bucket, Prefix="kaimon/"),
        lambda: client.list_objects_v2(Bucket=bucket),
        lambda: client.list_object_versions(Bucket=bucket, Prefix="kaimon/staging/acme/"),
        lambda: client.put_object(Bucket=bucket, Key="kaimon/staging/acme-2/n1/2", Body=b""),
        lambda: client.delete_object(Bucket=bucket, Key="kaimon/staging/acme-2/n1/1"),
        lambda: client.put_object(Bucket=bucket, Key="kaimon/audit/x", Body=b""),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            asked()
    with pytest.raises(OSError, match="not authorized"):
        open_table("acme-2", "deliveries", settings, delta_options("acme", settings))


def test_a_table_that_is_not_there_is_made_though_the_session_is_told_denied_of_it(sts: Sts) -> None:
    """What S3 says of an object that is not there to those who may list below some folders only."""
    settings = LakeSettings()
    assert open_table("acme", "events", settings) is None
    assert create_table("acme", "events", settings).version() == 0
    with pytest.raises(MissingError):
        open_store("staging").get("acme/n1/1")


def test_a_session_that_is_refused_is_an_error_of_the_store(sts: Sts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAIMON_AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match="a session of arn"):
        open_store("staging").put_new("gamma/n1/1", b"x")


@pytest.fixture
def in_moto(aws: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A bucket of moto, which keeps what it was told of encryption; its KMS knows acme's key and no other."""
    monkeypatch.setenv("KAIMON_HOME", str(tmp_path))
    name = f"kaimon-{tmp_path.name.replace('_', '-').lower()}"[:60].rstrip("-")
    client = aws.client("s3")
    client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    monkeypatch.setenv("KAIMON_STORES_URL", f"s3://{name}")
    return name


def test_each_object_of_a_tenant_is_encrypted_with_the_tenants_key(aws: Any, in_moto: str) -> None:
    open_store("staging").put_new("acme/n1/1", b"x")
    open_store("staging").put_new("acme/n1/2", b"x" * (33 << 20))
    open_store("audit").put_new("heads/1", b"x")
    Writer("acme", 1, LakeSettings()).append("deliveries", rows())
    client = aws.client("s3")
    keys = [one["Key"] for one in client.list_objects_v2(Bucket=in_moto)["Contents"]]
    told = {key: client.head_object(Bucket=in_moto, Key=key) for key in keys}
    ours = {key: (one.get("ServerSideEncryption"), one.get("SSEKMSKeyId")) for key, one in told.items()}
    assert {ours[key] for key in keys if "/acme/" in key} == {("aws:kms", "alias/kaimon-acme")}
    assert len([key for key in keys if key.startswith("lake/acme/")]) >= 3, "two commits and a file"
    assert ours["audit/heads/1"][1] is None


def test_the_policy_that_is_asked_for_is_one_that_the_server_takes(sts: Sts) -> None:
    open_store("staging").put_new("acme/n1/9", b"x")
    assert {one["Effect"] for one in json.loads(sts.asked[0]["Policy"])["Statement"]} == {"Allow"}
