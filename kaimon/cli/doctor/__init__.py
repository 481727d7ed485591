"""`kaimon doctor`: looks at what it can, leaves it as it was, and says one line each."""

from __future__ import annotations

import json as json_
from contextlib import suppress
from dataclasses import asdict
from typing import Annotated

import typer

from kaimon.base.access import accessing
from kaimon.base.redact import redact
from kaimon.base.settings import AwsSettings
from kaimon.cli.doctor import machine, state
from kaimon.cli.doctor.finding import LEVELS, Finding, looked_at
from kaimon.cli.running import running
from kaimon.cli.terminal import inert, write
from lake.settings import STORES, LakeSettings
from lake.stores import local_folder
from tenancy.settings import TenancySettings


def command(
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line: level, about, said.")] = False,
) -> None:
    """Look at certificate, database, keys, stores, files, disk encryption, room, clock and settings.

    A line each: ok, warn (look at it) or fail (mend it), and what to do. Exit status 1 if anything failed.
    """
    with accessing("command", *running()):
        found = findings()
    for finding in found:
        text = json_.dumps(asdict(finding)) if json else f"{finding.level:4}  {finding.about}: {finding.said}"
        write(inert(redact(" ".join(text.split("\n")))) + "\n")
    if not json:
        counts = ", ".join(f"{sum(one.level == level for one in found)} {level}" for level in LEVELS)
        write(f"{counts}\n")
    if any(finding.level == "fail" for finding in found):
        raise typer.Exit(1)


def findings() -> list[Finding]:
    """Return all that is found, in the order in which a new installation would be mended."""
    from ingest.settings import IngestSettings

    ingest, tenancy, lake, aws = IngestSettings(), TenancySettings(), LakeSettings(), AwsSettings()
    data = {"home": tenancy.home}
    for name in STORES:
        # What is elsewhere is not on a volume of this machine; whether it can be used, `stores` says.
        with suppress(ValueError):
            data[name] = local_folder(lake.url(name))
    # Folders below the home lie on its volume, unless something is mounted there.
    data = {
        name: folder
        for name, folder in data.items()
        if name == "home" or machine.existing(folder).stat().st_dev != machine.existing(data["home"]).stat().st_dev
    }
    found: list[Finding] = []
    found += looked_at("tls", lambda: state.tls(ingest))
    found += looked_at("database", lambda: state.database(tenancy))
    found += looked_at("stores", lambda: state.stores(lake))
    found += looked_at("files", lambda: state.files(tenancy))
    found += looked_at("volumes", lambda: machine.volumes(data))
    found += looked_at("room", lambda: machine.room(data))
    found += looked_at("swap", machine.swap)
    found += looked_at("core dumps", machine.core_dumps)
    found += looked_at("clock", machine.clock)
    found += looked_at("settings", lambda: state.weak(ingest, tenancy, lake, aws))
    return found
