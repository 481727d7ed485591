"""The `kaimon` command line: one sub-command a noun."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Iterable

import typer
from pydantic import ValidationError

from kaimon.base.logs import configure_logs
from kaimon.base.redact import redact
from kaimon.cli.running import named
from lake.access import access_log
from lake.lean import without_pandas

SUBCOMMANDS = (
    "tenant",
    "token",
    "apikey",
    "host",
    "person",
    "alarm",
    "alert",
    "audit",
    "access",
    "keys",
    "doctor",
    "ingest",
    "land",
    "quarantine",
    "query",
    "touches",
    "finding",
    "facts",
    "report",
    "verify",
    "replay",
    "backfill",
    "lifecycle",
    "portal",
)
"""Each is a module here with a Typer `app` or a plain function `command`."""
_WITH_PANDAS = {"backfill"}
"""Its checks hand a frame to a library that knows no other."""


def build(names: Iterable[str] = SUBCOMMANDS) -> typer.Typer:
    """Return the command line with these sub-commands."""
    app = typer.Typer(
        name="kaimon",
        help="File-activity security for Linux in which every event is accounted for.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(lambda: None)
    for name in names:
        module = importlib.import_module(f"kaimon.cli.{name}")
        if hasattr(module, "app"):
            app.add_typer(_named(module.app, name), name=name)
        else:
            app.command(name=name)(named(f"kaimon {name}", module.command))
    return app


def _named(app: typer.Typer, noun: str) -> typer.Typer:
    for info in app.registered_commands:
        if info.callback is not None and not hasattr(info.callback, "__wrapped__"):
            info.callback = named(f"kaimon {noun} {info.name or info.callback.__name__}", info.callback)
    return app


def main() -> None:
    """Run the command line; of the sub-commands only the one that is asked for is loaded.

    The command and what it does to any store are in the access log; the words after its name, which may hold anything,
    are not.
    """
    asked = [name for name in SUBCOMMANDS if name == next(iter(sys.argv[1:]), None)]
    if not _WITH_PANDAS.intersection(asked):
        without_pandas()
    configure_logs("cli", logging.WARNING)
    try:
        with access_log("cli"):
            build(asked or SUBCOMMANDS)()
    except ValidationError as error:
        print(f"error: {redact(str(error))}", file=sys.stderr)
        sys.exit(2)
