"""The `kaimon` command line: one sub-command a noun."""

from __future__ import annotations

import importlib

import typer

from kaimon.base.logs import configure_logs

SUBCOMMANDS = ("tenant", "token", "query", "ingest", "land")
"""Each is a module here with a Typer `app` or a plain function `command`."""


def build() -> typer.Typer:
    """Return the whole command line."""
    app = typer.Typer(
        name="kaimon",
        help="File-activity security for Linux in which every event is accounted for.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for name in SUBCOMMANDS:
        module = importlib.import_module(f"kaimon.cli.{name}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name)
        else:
            app.command(name=name)(module.command)
    return app


def main() -> None:
    """Run the command line."""
    configure_logs("cli")
    build()()
