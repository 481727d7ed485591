"""The demo: one kernel event's way to a written summary, and the proof that none was lost on it."""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

import polars as pl

from kaimon.base.logs import configure_logs
from kaimon.base.settings import PROJECT_ROOT
from kaimon.local import recording, show, tables
from kaimon.local.compare import compare, read_log
from kaimon.local.portal import ADMIN, Browser, ensure_admin, start_portal
from kaimon.local.processes import Children, ProcessError, wait_for
from kaimon.local.relay import Relay, drop_one
from kaimon.local.stack import Local, close_day, ensure_tenant, free_port, why_no_capture, write_token
from lake.access import access_log
from lake.settings import LakeSettings
from tenancy.database import open_database
from tenancy.settings import TenancySettings

TENANT = "demo"


def say(text: str) -> None:
    """Print a line of progress at once."""
    print(text, flush=True)


def make_activity(log: Path, marker: str) -> None:
    """Run the generator as a process of its own, in a temporary folder and on other file systems where they exist."""
    others = [name for name in ("/var/tmp", "/dev/shm") if os.access(name, os.W_OK)]  # noqa: S108 - where everybody is
    with tempfile.TemporaryDirectory(prefix="kaimon-") as temporary:
        command = [sys.executable, "-m", "kaimon.local.generator", str(log), marker, temporary, *others]
        subprocess.run(command, check=True, timeout=120)  # noqa: S603 - our own module


@contextmanager
def way_to_ingest(local: Local, marker: str, *, drop: bool) -> Iterator[str]:
    """Give the address that the agent sends to: ingest itself, or a relay that drops one event."""
    if not drop:
        yield local.ingest_url
        return
    with Relay(local.ingest_url, local.home / "tls", drop_one(marker)) as relay:
        say("      a relay stands between agent and ingest and will drop one write")
        yield relay.url


def capture(local: Local, children: Children, server: str, token: Path, marker: str) -> Path:
    """Let the real agent capture the generator's activity and ship it all; return the generator's log."""
    agent = local.start_agent(children, server, token)
    token.unlink()
    log = local.home / "generator.jsonl"
    make_activity(log, marker)
    if (status := children.stop_one(agent)) != 0:
        raise ProcessError(f"the agent ended with status {status}:\n{agent.tail()}")
    say("      the agent has shipped everything and said goodbye")
    return log


def report(local: Local, expected: pl.DataFrame, marker: str) -> bool:
    """Print what is in the tables and the proof; say whether every event is accounted for."""
    say("[6/7] What is in the tables")
    marked = tables.marked(local, TENANT, marker)
    comparison = compare(expected, marked)
    verdict = tables.verdict(local, TENANT)
    say(show.events(marked))
    say(show.rollups(tables.activity(local, TENANT), tables.completeness(local, TENANT)))
    say("[7/7] The proof")
    say(show.comparison(comparison))
    say(verdict.line)
    for name in verdict.missing:
        say(f"UNACCOUNTED: {name}")
    say(tables.summary(local, TENANT))
    return comparison.equal and verdict.holds


def look(local: Local, children: Children, marker: str) -> bool:
    """Log in to the portal as the tenant's Admin, ask for the first marked file, and say whether it is shown."""
    browser = Browser(local, start_portal(local, children, free_port(), free_port()))
    browser.log_in(ADMIN)
    first = tables.marked(local, TENANT, marker).row(0, named=True)
    asked = urlencode({"day": first["event_day"], "path": first["path"]})
    page = browser.get(f"/t/{TENANT}/activity?{asked}")
    shown = "<title>Activity" in page and "<tbody>" in page
    say(f"      the portal {'shows' if shown else 'does NOT show'} it to an Admin who logged in")
    return shown


def run(home: Path, *, drop: bool) -> int:
    """Run the demo in `home`; return the exit status."""
    started = datetime.now(UTC)
    why = why_no_capture()
    label = "" if why is None else "REPLAY: "
    if why is not None:
        say(f"{label}this machine cannot capture ({why}); recorded batches go through the same endpoint instead")
    marker = recording.MARKER if why else f"kaimon-demo-{secrets.token_hex(4)}"
    local = Local(home, free_port(), landing_idle_s=3.0)
    ca = local.prepare()
    with Children(home / "logs") as children:
        say(f"[1/7] Starting ingest on {local.ingest_url} and the pipelines; all state is in {home}")
        local.start_ingest(children)
        local.start_pipelines(children)
        say(f"[2/7] Making the tenant '{TENANT}' and an enrollment token")
        database = open_database(TenancySettings(home=home))
        try:
            ensure_tenant(database, TENANT)
            ensure_admin(database, TENANT)
            token = write_token(database, TENANT, home / "enrollment.token")
        finally:
            database.close()
        with way_to_ingest(local, marker, drop=drop) as server:
            if why is None:
                say("[3/7] Enrolling the agent; it captures while a generator makes marked file activity")
                log = capture(local, children, server, token, marker)
            else:
                say("[3/7] Enrolling as the recorded host and sending its batches")
                recording.send(server, ca, token.read_text().strip())
                token.unlink()
                log = recording.LOG
        expected = read_log(log)
        say(f"      {expected.height} operations in the generator's own log")
        say("[4/7] Waiting until the pipelines have landed the agent's last batch")
        wait_for("the agent's last batch to land", lambda: tables.goodbye_landed(local, TENANT), 240, children)
        days = tables.days(local, TENANT)
        for day in days:
            say(f"[5/7] Closing {day}: checks, rollups, facts, summary, delivery")
            if not close_day(local, day):
                say(f"      the day did not pass; see {home / 'logs' / 'close-day.log'}")
        passed = report(local, expected, marker) and look(local, children, marker)
    end = "PASS: every event is accounted for" if passed else "FAIL: NOT every event is accounted for"
    say(f"{label}{end} ({(datetime.now(UTC) - started).total_seconds():.0f} s)")
    return 0 if passed else 1


def main() -> None:
    """Run the demo in a fresh home below `var/`."""
    parser = argparse.ArgumentParser(prog="script/demo", description=__doc__)
    parser.add_argument("--drop-one", action="store_true", help="remove one event on its way; the demo must notice")
    parser.add_argument("--home", type=Path, help="where to keep its state (default: a new folder below var/demo/)")
    arguments = parser.parse_args()
    configure_logs("local", logging.WARNING)
    base = Path(os.environ.get("KAIMON_HOME", PROJECT_ROOT / "var")) / "demo"
    home = arguments.home or base / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    try:
        with access_log("local", LakeSettings(home=home.resolve())):
            status = run(home.resolve(), drop=arguments.drop_one)
    except (ProcessError, subprocess.SubprocessError) as error:
        say(f"FAIL: {error}")
        status = 1
    sys.exit(status)


if __name__ == "__main__":
    main()
