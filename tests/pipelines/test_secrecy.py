"""A token that a step of a run stumbles over is in no record that Dagster keeps or shows."""

# No `from __future__ import annotations` here: Dagster looks at the type of `context` itself.

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from pipelines.resources import Platform, PlatformResource
from tenancy.tokens import mint


@pytest.mark.parametrize("kind", ["enr", "hst", "api"])
def test_a_step_that_fails_with_a_token_in_hand_tells_nobody(
    home: Any, kind: Any, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    token = mint(kind)

    @dg.op
    def stumble(context: dg.OpExecutionContext, platform: PlatformResource) -> None:
        with platform.step(context):
            local = {"authorization": token}
            try:
                _ = {}[token]
            except KeyError as error:
                raise ValueError(f"refused {local}") from error

    @dg.job(executor_def=dg.in_process_executor)
    def stumbling() -> None:
        stumble()

    done = stumbling.execute_in_process(
        resources={"platform": Platform()}, instance=home.instance, raise_on_error=False
    )
    assert not done.success
    events = "".join(dg.serialize_value(entry) for entry in home.instance.all_logs(done.run_id))
    out, err = capfd.readouterr()
    assert "[redacted]" in events
    assert "refused" in events
    for text in (events, out, err):
        assert token[8:-4] not in text


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_the_code_server_has_no_secret_on_its_command_line(tmp_path: Path) -> None:
    token = mint("enr")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Dagster ends on SIGTERM by what SIGINT does, which whoever runs the tests in the background has ignored.
    command = ["env", "--default-signal=INT", Path(sys.executable).parent / "dagster"]
    command += ["api", "grpc", "-m", "pipelines.definitions"]
    command += ["-h", "127.0.0.1", "-p", str(port)]
    environment = {**os.environ, "KAIMON_HOME": str(tmp_path), "KAIMON_DATABASE_PASSWORD": token}
    environment |= {"DAGSTER_HOME": str(tmp_path)}
    log = (tmp_path / "log").open("wb")
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 200
        while not listens(port):
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        lines = [
            (folder / "cmdline").read_text()
            for folder in Path("/proc").glob("[0-9]*")
            if folder.name == str(process.pid) or _parent(folder) == process.pid
        ]
    finally:
        process.terminate()
        process.wait(timeout=60)
        log.close()
    assert any("pipelines.definitions" in line for line in lines)
    assert all(token not in line for line in lines)
    assert token[8:-4] not in (tmp_path / "log").read_text()


def _parent(folder: Path) -> int:
    try:
        return int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
