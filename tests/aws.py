"""A stand-in for AWS on this machine: moto's server, asked by the real client over HTTP, and how to make it go away."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kaimon.base.aws import aws_client
from kaimon.base.settings import AwsSettings

REGION = "us-west-2"
SERVER = """
import sys
from moto.server import main
main(["-H", "127.0.0.1", "-p", sys.argv[1]])
"""
ROLE = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_SESSION_TOKEN": "testing"}


class StandIn:
    """A running stand-in; `environment` leads a process of ours to it."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.port = port
        self.process = process

    @property
    def environment(self) -> dict[str, str]:
        return ROLE | {"KAIMON_AWS_REGION": REGION, "KAIMON_AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}"}

    def client(self, service: str) -> Any:
        """Return the product's own client; the test's environment holds the role."""
        return aws_client(service, AwsSettings(aws_region=REGION, aws_endpoint_url=f"http://127.0.0.1:{self.port}"))

    def key(self) -> str:
        """Make a KMS key; return its ARN."""
        return str(self.client("kms").create_key()["KeyMetadata"]["Arn"])

    def stop(self) -> None:
        """Go away; nothing listens on its port from now on."""
        self.process.terminate()
        self.process.wait(30)


@contextmanager
def running() -> Iterator[StandIn]:
    """Run a stand-in on a free port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait(port, process)
        yield StandIn(port, process)
    finally:
        process.kill()
        process.wait(30)


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("moto's server did not start")
        time.sleep(0.05)
