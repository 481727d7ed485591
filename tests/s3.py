"""A real S3 server on this machine: versitygw over a folder, with an identity service that judges every request.

Both are one binary, which `script/bootstrap test` builds. What AWS calls a session (temporary credentials of a role,
with a policy that narrows them) is judged by the server as AWS judges it; only the service that hands sessions out has
no stand-in that works without the internet, so `session` writes what it would have written.
"""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

REGION: Final = "us-west-2"
BINARY: Final = Path(__file__).parents[1] / "build" / "tools" / "versitygw"
ROLE: Final = "kaimon"
_ROOT: Final = "root-of-the-stand-in"
_PATIENCE_S: Final = 120
_EVERYTHING: Final = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}],
}
_TRUST: Final = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::000000000000:root"}, "Action": "sts:AssumeRole"}
    ],
}


def missing() -> str | None:
    """Return why there can be no server here, or None."""
    if not BINARY.exists():
        return "build/tools/versitygw is not there: script/bootstrap test builds it"
    return None


class S3Server:
    """A running server; `environment` leads a process of ours to it, under a session of the role that may do all."""

    def __init__(self, port: int, folder: Path, role: dict[str, Any]) -> None:
        self.port = port
        self.stores_url = ""
        self._data = folder / "data"
        self.role = str(role["Arn"])
        self._iam = folder / "iam" / "iam.json"
        self._role_id = str(role["RoleId"])
        self._lock = threading.Lock()
        self.credentials = self.session()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        return self.credentials | {"KAIMON_AWS_REGION": REGION, "KAIMON_AWS_S3_ENDPOINT_URL": self.endpoint}

    def client(self, credentials: dict[str, str] | None = None) -> Any:
        """Return a client that is not the product's own, of the role or of another session."""
        import boto3  # type: ignore[import-untyped]
        from botocore.config import Config  # type: ignore[import-untyped]

        said = credentials or self.credentials
        return boto3.Session(region_name=REGION).client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=said["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=said["AWS_SECRET_ACCESS_KEY"],
            aws_session_token=said["AWS_SESSION_TOKEN"],
            config=Config(max_pool_connections=32, retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
        )

    def bucket(self, *, versioned: bool = False) -> str:
        """Make a bucket."""
        name, client = f"kaimon-{uuid.uuid4().hex}", self.client()
        client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        if versioned:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        client.close()
        return name

    def plant(self, bucket: str, keys: Iterable[str], data: bytes) -> None:
        """Put many objects past the server: it serves every file in its folder."""
        for key in keys:
            path = self._data / bucket / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def session(self, policy: str = "", name: str = "test") -> dict[str, str]:
        """Return credentials of the role for an hour, narrowed by a policy if one is given."""
        now = datetime.now(UTC).replace(microsecond=0)
        key, secret, token = (f"ASIA{secrets.token_hex(8).upper()}", secrets.token_hex(20), secrets.token_hex(64))
        session = {
            "accessKeyId": key,
            "secretAccessKey": secret,
            "sessionToken": token,
            "roleArn": self.role,
            "roleName": ROLE,
            "roleId": self._role_id,
            "roleSessionName": name,
            "provider": "",
            "audience": "",
            "subject": "",
            "createDate": now.isoformat().replace("+00:00", "Z"),
            "expiration": (now + timedelta(hours=1)).isoformat().replace("+00:00", "Z"),
            "policy": policy,
        }
        self._store(key, session)
        return {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": token}

    def _store(self, key: str, session: dict[str, str]) -> None:
        """Add a session to the server's file, which the server rewrites, too, to note when a role was last used."""
        with self._lock:
            deadline = time.monotonic() + _PATIENCE_S
            while time.monotonic() < deadline:
                there = json.loads(self._iam.read_text())
                there["sessions"][key] = session
                partial = self._iam.with_suffix(".partial")
                partial.write_text(json.dumps(there))
                partial.replace(self._iam)
                time.sleep(0.2)
                if key in json.loads(self._iam.read_text())["sessions"]:
                    return
        raise RuntimeError("the server does not keep a session")


@contextmanager
def running() -> Iterator[S3Server]:
    """Run a server on a free port of 127.0.0.1, in a folder that goes with it."""
    with tempfile.TemporaryDirectory(prefix="kaimon-s3-") as home, ExitStack() as until_the_end:
        folder = Path(home)
        for name in ("iam", "data", "old"):
            (folder / name).mkdir()
        private = str(folder / "iam.sock")
        iam_port, port = _free_port(), _free_port()
        common = [str(BINARY), "--access", _ROOT, "--secret", _ROOT, "--quiet", "--region", REGION]
        iam = [*common, "--port", f"127.0.0.1:{iam_port}", "iam", "--dir", str(folder / "iam")]
        until_the_end.enter_context(_process([*iam, "--private-ports", private], iam_port, folder / "iam.log"))
        role = _make_role(iam_port)
        gateway = [*common, "--iam-standalone-endpoint", private, "--port", f"127.0.0.1:{port}"]
        posix = ["posix", "--versioning-dir", str(folder / "old"), str(folder / "data")]
        until_the_end.enter_context(_process([*gateway, *posix], port, folder / "s3.log"))
        yield S3Server(port, folder, role)


@contextmanager
def _process(command: list[str], port: int, log: Path) -> Iterator[None]:
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, env={"HOME": str(log.parent)})
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"versitygw did not start: {log.read_text()[-500:]}")
            time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.wait(30)


def _make_role(port: int) -> dict[str, Any]:
    import boto3

    iam = boto3.Session(region_name="us-east-1").client(
        "iam",
        endpoint_url=f"http://127.0.0.1:{port}",
        aws_access_key_id=_ROOT,
        aws_secret_access_key=_ROOT,
    )
    role: dict[str, Any] = iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps(_TRUST))["Role"]
    iam.put_role_policy(RoleName=ROLE, PolicyName="all", PolicyDocument=json.dumps(_EVERYTHING))
    iam.close()
    return role


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
