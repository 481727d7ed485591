"""Everything up on this machine until Ctrl-C."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from kaimon.base.logs import configure_logs
from kaimon.base.settings import HomeSettings
from kaimon.local.portal import ADMIN, ensure_admin, start_portal
from kaimon.local.processes import Children, ProcessError, wait_for
from kaimon.local.stack import BINARIES, Local, ensure_tenant, listens, why_no_capture, write_token
from tenancy.database import open_database
from tenancy.settings import TenancySettings

TENANT = "local"


@dataclass(frozen=True)
class Ports:
    """Where Dagster's pages, the portal and its development provider listen, on loopback."""

    dagster: int
    portal: int
    provider: int


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def start_agent(local: Local, children: Children) -> str:
    """Start the agent, enrolling it the first time; say in a line how that went."""
    if (why := why_no_capture()) is not None:
        return f"agent      not running: this machine cannot capture ({why})"
    enrolled = (local.home / "agent" / "credential.json").exists()
    token: Path | None = None
    if not enrolled:
        database = open_database(TenancySettings(home=local.home))
        try:
            token = write_token(database, TENANT, local.home / "agent.token")
        finally:
            database.close()
    local.start_agent(children, local.ingest_url, token)
    if token is not None:
        token.unlink()
    return "agent      capturing this host"


def serve(local: Local, ports: Ports, stop: threading.Event) -> int:
    """Start everything, print where it is, wait until `stop`; return the exit status."""
    local.prepare()
    database = open_database(TenancySettings(home=local.home))
    try:
        ensure_tenant(database, TENANT)
        ensure_admin(database, TENANT)
    finally:
        database.close()
    with Children(local.home / "logs") as children:
        local.start_ingest(children)
        say(f"ingest     {local.ingest_url}   (CA: {local.home / 'tls' / 'ca.pem'})")
        say(f"portal     {start_portal(local, children, ports.portal, ports.provider)}   (log in as {ADMIN})")
        local.start_pipelines(children, ports.dagster)
        wait_for("Dagster's pages", lambda: listens(ports.dagster), 120, children)
        say(f"dagster    http://127.0.0.1:{ports.dagster}")
        say(start_agent(local, children))
        say(f"tenant     {TENANT}")
        say(f'query      {BINARIES / "kaimon"} query --tenant {TENANT} "FROM events ORDER BY time DESC LIMIT 10"')
        say(f"logs       {local.home / 'logs'}")
        say("Ctrl-C stops all.")
        while not stop.wait(1.0):
            children.check()
        say("stopping")
    return 0


def main() -> None:
    """Run until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="script/server", description=__doc__)
    parser.add_argument("--ingest-port", type=int, default=8443)
    parser.add_argument("--dagster-port", type=int, default=3000)
    parser.add_argument("--portal-port", type=int, default=8444)
    parser.add_argument("--provider-port", type=int, default=8445, help="of the development login")
    arguments = parser.parse_args()
    configure_logs("local", logging.WARNING)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    ports = Ports(arguments.dagster_port, arguments.portal_port, arguments.provider_port)
    try:
        status = serve(Local(HomeSettings().home.resolve(), arguments.ingest_port), ports, stop)
    except ProcessError as error:
        say(f"FAIL: {error}")
        status = 1
    sys.exit(status)


if __name__ == "__main__":
    main()
