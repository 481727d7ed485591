"""The command line as a whole."""

from __future__ import annotations

import importlib
import pkgutil

import kaimon.cli
from kaimon.cli.main import SUBCOMMANDS


def test_every_module_that_holds_a_command_is_reached_from_the_command_line() -> None:
    names = [module.name for module in pkgutil.iter_modules(kaimon.cli.__path__) if module.name != "main"]
    modules = {name: importlib.import_module(f"kaimon.cli.{name}") for name in names}
    commands = {name for name, module in modules.items() if hasattr(module, "app") or hasattr(module, "command")}
    assert commands == set(SUBCOMMANDS)
