"""The portal as a process: its words are JSON, its worker ends with it, each request leaves a record of who came."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kaimon.base.access import Access
from lake.access_reads import read_access
from lake.settings import LakeSettings
from lake.stores import StoreError, open_store


def wait_until(true: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.1)
    return found


def workers_of(pid: int) -> list[int]:
    """Return the processes that `pid` started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(folder.name))
    return found


def gone(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_the_worker_ends_with_a_server_that_was_killed_and_all_its_words_are_json(
    start_portal: Callable[..., Any],
) -> None:
    running = start_portal()
    server = running.processes[0]
    workers = wait_until(lambda: workers_of(server.pid), "a worker")
    os.kill(server.pid, signal.SIGKILL)
    server.wait(30)
    wait_until(lambda: all(gone(pid) for pid in workers), "the worker to end", 60)
    lines = running.log.read_text().splitlines()
    assert lines
    events = {json.loads(line)["event"] for line in lines}
    assert "portal_listening" in events


def test_each_request_leaves_a_record_of_who_did_what_to_whom(start_portal: Callable[..., Any]) -> None:
    running = start_portal(provider=True)
    ada = running.member("acme", "ada@acme.example", "admin")
    assert ada.get("/t/acme/hosts").status_code == 200
    assert ada.get("/t/bolt/hosts").status_code == 404
    assert running.browser().get("/t/acme/hosts?code=nobodys-business").status_code == 303
    running.processes[0].send_signal(signal.SIGTERM)
    assert running.processes[0].wait(60) == 0
    now = datetime.now(UTC)

    def read() -> list[Access]:
        store = open_store("audit", LakeSettings(home=running.home))
        with suppress(StoreError):
            return list(read_access(store, now - timedelta(days=1), now + timedelta(days=1)))
        return []

    calls = [one for one in read() if one.what == "portal GET /t/…/hosts"]
    assert [(one.outcome, one.status, one.tenant) for one in calls] == [
        ("ok", 200, "acme"),
        ("not_found", 404, None),
        ("ok", 303, None),
    ]
    mine, foreign, nobody = calls
    assert mine.who == foreign.who
    assert (mine.who or "").startswith("prs_")
    assert nobody.who is None
    assert {one.origin for one in calls} == {"127.0.0.1"}
    assert len({one.request_id for one in calls}) == 3
    assert all((one.request_id or "").startswith("req_") for one in calls)
    # An address bears what somebody typed; a record does not.
    assert "nobodys-business" not in repr(read())
