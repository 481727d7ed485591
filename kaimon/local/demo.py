"""The demo: one kernel event's way to a written summary, and the proof that none was lost on it."""

from __future__ import annotations

import argparse
import os
import secrets
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl

from kaimon.base.settings import PROJECT_ROOT
from kaimon.local import close, replay, tables
from kaimon.local.compare import Comparison, compare, read_log
from kaimon.local.processes import Children, ProcessError, wait_for
from kaimon.local.relay import Relay, drop_one
from kaimon.local.stack import Local, ensure_tenant, free_port, why_no_capture, write_token
from tenancy.database import open_database
from tenancy.settings import TenancySettings

TENANT = "demo"


def say(text: str) -> None:
    """Print a line of progress at once."""
    print(text, flush=True)


def folders() -> list[str]:
    """Return the folders to be active in: a fresh temporary one, and others on other file systems where they exist."""
    temporary = tempfile.mkdtemp(prefix="kaimon-")
    return [temporary, *(name for name in ("/var/tmp", "/dev/shm") if os.access(name, os.W_OK))]  # noqa: S108


def make_activity(home: Path, marker: str) -> Path:
    """Run the generator as a process of its own and return its log."""
    log = home / "generator.jsonl"
    command = [sys.executable, "-m", "kaimon.local.generator", str(log), marker, *folders()]
    subprocess.run(command, check=True, timeout=120)  # noqa: S603 - our own module
    return log


def capture(local: Local, children: Children, token: Path, marker: str, *, drop: bool) -> Path:
    """Let the real agent capture the generator's activity and ship it all; return the generator's log."""
    with ExitStack() as stack:
        server = local.ingest_url
        if drop:
            server = stack.enter_context(Relay(local.ingest_url, local.home / "tls", drop_one(marker))).url
            say("    a relay stands between agent and ingest; it will drop one write")
        agent = local.start_agent(children, server, token)
        say("[4/8] Capturing; making marked file activity")
        log = make_activity(local.home, marker)
        status = children.stop_one(agent)
        if status != 0:
            raise ProcessError(f"the agent ended with status {status}:\n{agent.tail()}")
        say(f"    {sum(1 for _ in log.open())} operations done; the agent has shipped everything and said goodbye")
        return log


def report(local: Local, marker: str, log: Path, days: list[date]) -> Comparison:
    """Print what became of the events: rows, accounting, rollup, summary."""
    marked = tables.marked(local, TENANT, marker)
    with pl.Config(tbl_rows=400, tbl_cols=20, fmt_str_lengths=64, tbl_width_chars=200, tbl_hide_dataframe_shape=True):
        say(str(marked.select("time", "operation", "path", "target_path", "process", "user", "path_status")))
        comparison = compare(read_log(log), marked)
        say(f"Generator: {comparison.expected} operations done, {comparison.found} found in the table")
        if not comparison.equal:
            say("Missing:")
            say(str(comparison.missing))
            say("Besides:")
            say(str(comparison.surplus))
        say("[8/8] The day")
        say(str(tables.activity(local, TENANT, days)))
        say(str(tables.completeness(local, TENANT, days)))
    return comparison


def run(home: Path, *, drop: bool) -> int:
    """Run the demo in `home`; return the exit status."""
    started = datetime.now(UTC)
    marker = f"kaimon-demo-{secrets.token_hex(4)}"
    why = why_no_capture()
    if why is not None:
        say(f"REPLAY: this machine cannot capture ({why}); recorded batches go through the same endpoint instead")
    local = Local(home, free_port())
    local.prepare()
    with Children(home / "logs") as children:
        say(f"[1/8] Home is {home}; starting ingest on {local.ingest_url}")
        local.start_ingest(children)
        say("[2/8] Starting the pipelines")
        local.start_daemon(children)
        with ExitStack() as stack:
            database = open_database(TenancySettings(home=home))
            stack.callback(database.close)
            ensure_tenant(database, TENANT)
            token = write_token(database, TENANT, home / "demo.token")
        if why is None:
            say(f"[3/8] Tenant '{TENANT}' made; enrolling the agent")
            log = capture(local, children, token, marker, drop=drop)
        else:
            say(f"[3/8] Tenant '{TENANT}' made; enrolling the recording")
            log, marker = replay.send(local, token, drop=drop)
        say("[5/8] Waiting until the pipelines have landed the agent's last batch")
        wait_for("the last batch to land", lambda: tables.goodbye_landed(local, TENANT), 180, children)
        days = tables.days(local, TENANT, marker) or [started.date()]
        for day in days:
            say(f"[6/8] Closing {day}: checks, rollups, facts, summary, delivery")
            close.close_day(local, day)
        say("[7/8] The marked events")
        comparison = report(local, marker, log, days)
        verdict = tables.verdict(local, TENANT)
    say(verdict.line)
    for line in verdict.missing:
        say(f"UNACCOUNTED: {line}")
    shown = tables.show_summary(local, TENANT, days[-1])
    say(shown)
    passed = comparison.equal and verdict.holds
    took = (datetime.now(UTC) - started).total_seconds()
    end = "every event is accounted for" if passed else "NOT every event is accounted for"
    say(f"{'REPLAY: ' if why is not None else ''}{'PASS' if passed else 'FAIL'}: {end} ({took:.0f} s)")
    return 0 if passed else 1


def main() -> None:
    """Run the demo in a fresh home below `var/`."""
    parser = argparse.ArgumentParser(prog="script/demo", description=__doc__)
    parser.add_argument("--drop-one", action="store_true", help="remove one event on its way; the demo must notice")
    parser.add_argument("--home", type=Path, help="where to keep its state (default: a new folder below var/demo/)")
    arguments = parser.parse_args()
    base = Path(os.environ.get("KAIMON_HOME", PROJECT_ROOT / "var")) / "demo"
    home = arguments.home or base / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    try:
        status = run(home.resolve(), drop=arguments.drop_one)
    except (ProcessError, subprocess.CalledProcessError) as error:
        say(f"FAIL: {error}")
        status = 1
    sys.exit(status)


if __name__ == "__main__":
    main()
