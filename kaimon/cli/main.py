"""The `kaimon` command line: one sub-command a noun."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Iterable

import typer

from kaimon.base.logs import configure_logs
from lake.lean import without_pandas

SUBCOMMANDS = ("tenant", "token", "alarm", "audit", "keys", "ingest", "land", "query")
"""Each is a module here with a Typer `app` or a plain function `command`."""


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
            app.add_typer(module.app, name=name)
        else:
            app.command(name=name)(module.command)
    return app


def main() -> None:
    """Run the command line; of the sub-commands only the one that is asked for is loaded."""
    without_pandas()
    configure_logs("cli", logging.WARNING)
    asked = [name for name in SUBCOMMANDS if name == next(iter(sys.argv[1:]), None)]
    build(asked or SUBCOMMANDS)()
