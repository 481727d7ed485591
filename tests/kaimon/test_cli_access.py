"""`kaimon access`, run as people run it: what the commands themselves did is in the log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kaimon.base.access import Access, report
from lake.access import access_log
from lake.settings import LakeSettings

KAIMON = Path(sys.executable).parent / "kaimon"


def kaimon(home: Path, *words: str, status: int = 0, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "KAIMON_HOME": str(home), **settings}
    done = subprocess.run([KAIMON, *words], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == status, done.stderr
    return done


def records(home: Path, *words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in kaimon(home, "access", "--json", *words).stdout.splitlines()]


def test_a_command_and_what_it_reads_are_in_the_log(tmp_path: Path) -> None:
    kaimon(tmp_path, "tenant", "create", "acme")
    kaimon(tmp_path, "query", "--tenant", "acme", "SELECT path FROM events WHERE path = '/srv/secret'")
    kaimon(tmp_path, "query", "--tenant", "nobody", "SELECT 1", status=2)
    everything = records(tmp_path)
    found = [one for one in everything if one.get("tenant") == "acme"]
    assert [(one["kind"], one["what"], one["outcome"]) for one in found if one["kind"] == "command"] == [
        ("command", "kaimon tenant create", "ok"),
        ("command", "kaimon query", "ok"),
    ]
    assert {one["what"] for one in found if one["kind"] == "storage"} == {"lake.query", "lake.read"}
    assert len({one["request_id"] for one in found}) == 2
    assert all(one["who"].startswith("prs_") and one["origin"].startswith("cli:") for one in found)
    assert "secret" not in json.dumps(found)
    refused = [one for one in everything if one.get("tenant") == "nobody"]
    assert [(one["what"], one["outcome"]) for one in refused] == [("kaimon query", "QueryError")]
    # Reading the log is in the log.
    whats = [one["what"] for one in records(tmp_path)]
    assert "kaimon access" in whats
    assert "audit.list" in whats


def test_a_range_bounds_what_is_shown_and_the_text_form_is_a_line_each(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    with access_log("cli", LakeSettings(home=tmp_path)):
        for hours in (30, 2):
            at = now - timedelta(hours=hours)
            report(
                Access(
                    at=at, kind="storage", what="staging.put", outcome="ok", tenant="acme", object="acme/n/1", bytes=9
                )
            )
        report(Access(at=now, kind="call", what="GET /\x1b[31m", outcome="ok", tenant="acme"))
    first, second = kaimon(tmp_path, "access", "--tenant", "acme").stdout.splitlines()
    assert first.endswith("storage  ?  staging.put  acme/n/1  ok  -  -  9 B")
    assert "\\x1b[31m" in second
    found = records(tmp_path, "--tenant", "acme", "--from", "2020-01-01")
    assert [one["kind"] for one in found] == ["storage", "storage", "call", "command"]
    assert "--from" in kaimon(tmp_path, "access", "--from", "never", status=2).stderr


def test_a_command_whose_records_cannot_be_kept_says_so(tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the audit store should be")
    done = kaimon(tmp_path, "tenant", "list", KAIMON_AUDIT_URL=blocked.as_uri())
    assert "access_records_lost" in done.stderr


def test_a_setting_that_cannot_be_read_is_a_line_and_no_traceback(tmp_path: Path) -> None:
    done = kaimon(tmp_path, "tenant", "list", status=2, KAIMON_ACCESS_FLUSH_S="soon")
    assert "access_flush_s" in done.stderr
    assert "Traceback" not in done.stderr
