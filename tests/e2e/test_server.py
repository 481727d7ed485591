"""The server as its user runs it: a file's life anywhere on the host shows in `kaimon query`, each event once."""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from kaimon.local.portal import ADMIN, Browser
from kaimon.local.stack import BINARIES, Local, free_port, listens


@pytest.fixture
def server(capturing: None, repository: Path, tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """Run the server in a home of its own; give the home and the portal's port; end it as Ctrl-C does."""
    home, output = tmp_path / "home", tmp_path / "output"
    command, ports = [sys.executable, "-m", "kaimon.local.server"], [free_port() for _ in range(4)]
    for name, port in zip(("portal", "provider", "ingest", "dagster"), ports, strict=True):
        command += [f"--{name}-port", str(port)]
    with output.open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=repository, env={**os.environ, "KAIMON_HOME": str(home)}
        )
    try:
        deadline = time.monotonic() + 120
        while "Ctrl-C stops all" not in output.read_text():
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.2)
        yield home, ports[0]
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 0, output.read_text()
        assert [port for port in ports if listens(port)] == []


def query(home: Path, sql: str) -> list[dict[str, object]]:
    done = subprocess.run(
        [BINARIES / "kaimon", "query", "--tenant", "local", "--format", "json", sql],
        env={**os.environ, "KAIMON_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, object]] = json.loads(done.stdout)
    return rows


@pytest.mark.root
@pytest.mark.slow
def test_a_files_life_shows_within_a_minute_each_event_once(server: tuple[Path, int]) -> None:
    home, portal = server
    with tempfile.TemporaryDirectory(prefix="kaimon-life-") as folder:
        file = f"{folder}/report.txt"
        subprocess.run(
            ["sh", "-c", 'echo hello >"$1" && mv "$1" "$1.old" && chmod 600 "$1.old" && rm "$1.old"', "sh", file],
            check=True,
        )
        began = time.monotonic()
    wanted = Counter(
        [
            ("create", file, None, "sh"),
            ("write", file, None, "sh"),
            ("rename", file, f"{file}.old", "mv"),
            ("chmod", f"{file}.old", None, "chmod"),
            ("delete", f"{file}.old", None, "rm"),
        ]
    )
    rows: list[dict[str, object]] = []
    while time.monotonic() - began < 60:
        rows = query(
            home,
            f"SELECT operation, path, target_path, process, \"user\", count FROM events WHERE path LIKE '{file}%'",
        )
        if len(rows) >= len(wanted):
            break
        time.sleep(1)
    found = Counter((row["operation"], row["path"], row["target_path"], row["process"]) for row in rows)
    assert found == wanted, rows
    assert {row["user"] for row in rows} == {pwd.getpwuid(os.getuid()).pw_name}
    assert {row["count"] for row in rows} == {1}
    browser = Browser(Local(home, 0), f"https://localhost:{portal}")
    assert 'href="/login"' in browser.get("/")
    assert "Development login" in browser.get("/login")
    browser.log_in(ADMIN)
    assert file in browser.get(f"/t/local/activity?path={file}")
