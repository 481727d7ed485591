"""The parts of docs/ that are made from the code: settings, the schema, and what SECURITY.md says is collected.

`python -m kaimon.local.documents` writes them; `--check` fails when one is not current.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from kaimon.base.settings import PROJECT_ROOT, HomeSettings
from lake.describe import collected_markdown, schema_markdown

PACKAGES = ("kaimon.base", "lake", "tenancy", "ingest", "pipelines", "dashboards.portal")
BEGIN, END = "<!-- begin: made from the code -->", "<!-- end: made from the code -->"


def settings_classes() -> list[type[BaseSettings]]:
    """Return every settings class of ours, in the data's order."""
    found: list[type[BaseSettings]] = []
    for package in PACKAGES:
        module = importlib.import_module(f"{package}.settings")
        found += [
            value
            for value in vars(module).values()
            if isinstance(value, type) and issubclass(value, BaseSettings) and value.__module__ == module.__name__
        ]
    return found


def settings_markdown() -> str:
    """Return a table of every setting: its variable, default and meaning.

    Raises:
        ValueError: a setting has no description.
    """
    inherited = set(HomeSettings.model_fields)
    lines = ["| variable | default | meaning | read by |", "|---|---|---|---|"]
    for owner in settings_classes():
        for name, field in owner.model_fields.items():
            if name in inherited and owner is not HomeSettings:
                continue
            if not field.description:
                raise ValueError(f"{owner.__module__}.{owner.__name__}.{name} has no description")
            default = "" if field.default in (None, PydanticUndefined) else str(field.default)
            default = default.replace(str(PROJECT_ROOT) + "/", "")
            lines.append(
                f"| `KAIMON_{name.upper()}` | {f'`{default}`' if default else 'none'} | {field.description} "
                f"| `{owner.__module__.removesuffix('.settings')}` |"
            )
    return "\n".join(lines)


def documents() -> dict[Path, str]:
    """Return each file that has a made part, and that part."""
    return {
        PROJECT_ROOT / "docs/settings.md": settings_markdown(),
        PROJECT_ROOT / "docs/schema.md": schema_markdown(),
        PROJECT_ROOT / "SECURITY.md": collected_markdown(),
    }


def renewed(text: str, made: str) -> str:
    """Return `text` with the part between the marks replaced by `made`.

    Raises:
        ValueError: the marks are not there exactly once.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"wants '{BEGIN}' and '{END}' once each")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{made.strip()}\n{END}{rest.split(END)[1]}"


def main() -> None:
    """Write the made parts, or check that they are current."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when one is not current")
    check = parser.parse_args().check
    stale = []
    for path, made in documents().items():
        text = path.read_text()
        if (new := renewed(text, made)) != text:
            stale.append(path.relative_to(PROJECT_ROOT))
            if not check:
                path.write_text(new)
    if check and stale:
        names = ", ".join(str(path) for path in stale)
        sys.exit(f"not current: {names}; run .venv/bin/python -m kaimon.local.documents")


if __name__ == "__main__":
    main()
