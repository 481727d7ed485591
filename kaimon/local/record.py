"""Makes the recording anew from a real capture: `python -m kaimon.local.record`, as root, after the wire changed."""

from __future__ import annotations

import functools
import os
import subprocess
import tempfile
from pathlib import Path

from kaimon.base.settings import PROJECT_ROOT
from kaimon.local import recording
from kaimon.local.processes import Children
from kaimon.local.relay import Relay
from kaimon.local.stack import Local, ensure_tenant, free_port, write_token
from tenancy.database import open_database
from tenancy.settings import TenancySettings


def main() -> None:
    """Capture the generator's activity through a relay that keeps a copy, and save it."""
    with tempfile.TemporaryDirectory(prefix="kaimon-record-") as folder:
        home = Path(folder)
        local = Local(home, free_port())
        local.prepare()
        log = home / "generator.jsonl"
        batches: list[recording.Batch] = []
        with Children(home / "logs") as children:
            local.start_ingest(children)
            database = open_database(TenancySettings(home=home))
            ensure_tenant(database, "record")
            token = write_token(database, "record", home / "token")
            database.close()
            with Relay(local.ingest_url, home / "tls", functools.partial(recording.keep, into=batches)) as relay:
                agent = local.start_agent(children, relay.url, token)
                # The distribution's Python: where this one lies says something of the machine.
                command = ["/usr/bin/python3", "-m", "kaimon.local.generator", str(log), recording.MARKER, "/tmp"]  # noqa: S108
                subprocess.run(  # noqa: S603 - our own module
                    command,
                    check=True,
                    cwd=PROJECT_ROOT,
                    env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
                )
                if children.stop_one(agent) != 0:
                    raise SystemExit(agent.tail())
        recording.save(batches, log, recording.MARKER)


if __name__ == "__main__":
    main()
