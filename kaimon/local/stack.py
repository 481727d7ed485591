"""The parts of kaimon as local processes: ingest, Dagster, an enrolled agent."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from kaimon.base.settings import PROJECT_ROOT
from kaimon.base.tls import ensure_development_tls
from kaimon.local.processes import Child, Children, wait_for
from tenancy.database import Database
from tenancy.enrollment import create_token
from tenancy.tenants import create_tenant, get_tenant

BINARIES = Path(sys.executable).parent
AGENT = PROJECT_ROOT / "build" / "kaimon-agent"


@dataclass(frozen=True)
class Local:
    """Where one local kaimon lives and listens; every process gets `environment`."""

    home: Path
    ingest_port: int
    landing_idle_s: float = 60.0

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make a process part of this kaimon."""
        return {
            "KAIMON_HOME": str(self.home),
            "KAIMON_PORT": str(self.ingest_port),
            "KAIMON_LANDING_IDLE_S": str(self.landing_idle_s),
            "DAGSTER_HOME": str(self.home / "dagster"),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "PYTHONUNBUFFERED": "1",
        }

    @property
    def ingest_url(self) -> str:
        """Where agents send."""
        return f"https://127.0.0.1:{self.ingest_port}"

    def prepare(self) -> Path:
        """Make the home (0700) with Dagster's configuration and the development CA; return the CA's path."""
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        dagster = self.home / "dagster"
        dagster.mkdir(exist_ok=True)
        shutil.copyfile(PROJECT_ROOT / "dagster.yaml", dagster / "dagster.yaml")
        return ensure_development_tls(self.home).ca

    def start_ingest(self, children: Children) -> Child:
        """Start ingest and wait until it says that it is ready."""
        child = children.start("ingest", [BINARIES / "kaimon", "ingest", "serve"], self.environment)
        context = ssl.create_default_context(cafile=str(self.prepare()))

        def ready() -> bool:
            try:
                with urllib.request.urlopen(f"{self.ingest_url}/readyz", context=context, timeout=2) as answer:  # noqa: S310 - our own address
                    return bool(answer.status == 200)
            except (urllib.error.URLError, OSError):
                return False

        wait_for("ingest to be ready", ready, 60, children)
        return child

    def start_pipelines(self, children: Children, webserver_port: int | None = None) -> None:
        """Start Dagster: the pipelines' code once, the daemon for sensors and schedules, and its pages if wanted.

        The pages have no login of their own, so they listen on loopback. Without one server for the code, daemon
        and pages would each run theirs, and start it anew every minute.
        """
        port = free_port()
        code: list[str | Path] = [
            BINARIES / "dagster",
            "api",
            "grpc",
            "-m",
            "pipelines.definitions",
            "-h",
            "127.0.0.1",
            "-p",
            str(port),
        ]
        children.start("dagster-code", code, self.environment)
        wait_for("the pipelines' code to be served", lambda: listens(port), 120, children)
        workspace = self.home / "dagster" / "workspace.yaml"
        workspace.write_text(
            f"load_from:\n- grpc_server: {{host: 127.0.0.1, port: {port}, location_name: kaimon}}\n", encoding="utf-8"
        )
        daemon: list[str | Path] = [BINARIES / "dagster-daemon", "run", "-w", workspace]
        children.start("dagster-daemon", daemon, self.environment)
        if webserver_port is not None:
            pages: list[str | Path] = [
                BINARIES / "dagster-webserver",
                "-h",
                "127.0.0.1",
                "-p",
                str(webserver_port),
                "-w",
                workspace,
            ]
            children.start("dagster-webserver", pages, self.environment)

    def start_agent(self, children: Children, server: str, token: Path | None) -> Child:
        """Start the agent; with `token` it enrolls first. Wait until it captures.

        Nothing below the home is captured: kaimon's own storage would feed itself.
        """
        state = self.home / "agent"
        command: list[str | Path] = [AGENT, "run", "--server", server, "--ca", self.prepare(), "--state-dir", state]
        command += ["--exclude", self.home]
        if token is not None:
            command += ["--token-file", token]
        child = children.start("agent", command)
        wait_for("the agent to capture", lambda: "capturing" in child.log.read_text(errors="replace"), 60, children)
        return child


def close_day(local: Local, day: date) -> bool:
    """Close a day in a run that Dagster records; say whether it went through.

    A day whose checks fail does not: its run ends at the gate, and says why in `logs/close-day.log`.
    """
    command = [sys.executable, "-m", "pipelines.close", day.isoformat()]
    with (local.home / "logs" / "close-day.log").open("ab") as log:
        environment = {**os.environ, **local.environment}
        done = subprocess.run(command, stdout=log, stderr=log, env=environment, check=False, timeout=300)  # noqa: S603 - our own
    return done.returncode == 0


def ensure_tenant(database: Database, tenant: str) -> bool:
    """Make the tenant if it is not there; say whether it was made."""
    if get_tenant(database, tenant) is not None:
        return False
    create_tenant(database, tenant, subscription="active")
    return True


def write_token(database: Database, tenant: str, path: Path) -> Path:
    """Write a new enrollment token, good for one host, to `path` (0600)."""
    _, secret = create_token(database, tenant, label="local agent", max_uses=1)
    descriptor = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secret + "\n")
    return path


def why_no_capture() -> str | None:
    """Return None if the agent can capture on this machine, else why not, in its own words."""
    if os.geteuid() != 0:
        return "not root"
    probe = subprocess.run([AGENT, "probe", "--json"], capture_output=True, check=False, timeout=60)  # noqa: S603 - our own program
    try:
        answer = json.loads(probe.stdout)
    except json.JSONDecodeError:
        return f"kaimon-agent probe failed: {probe.stderr.decode(errors='replace').strip()[-300:]}"
    return None if answer.get("works") else str(answer.get("error") or "no capture mode attaches")


def listens(port: int) -> bool:
    """Say whether somebody listens on this port of 127.0.0.1."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
