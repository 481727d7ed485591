"""The schema as documents: the parts of docs/schema.md and SECURITY.md that are made from the code."""

from __future__ import annotations

from lake.columns import Column
from lake.schema import EVENTS, TABLES, Table


def schema_markdown() -> str:
    """Return every table with its columns, as Markdown."""
    return "\n\n".join(_table(table) for table in TABLES.values())


def collected_markdown() -> str:
    """Return what an event holds and where each value comes from, as a Markdown table."""
    lines = ["| column | what it is | given by |", "|---|---|---|"]
    lines += [f"| `{column.name}` | {_cell(column.meaning)} | {column.source} |" for column in EVENTS]
    return "\n".join(lines)


def _table(table: Table) -> str:
    kept = f"Partitioned by `{table.partition}`." if table.partition else "Not partitioned."
    ocsf = any(column.ocsf for column in table.columns)
    lines = [
        f"## {table.name}",
        "",
        f"{table.purpose}. {kept}",
        "",
        f"| column | type | meaning | unit |{' OCSF |' if ocsf else ''}",
        f"|---|---|---|---|{'---|' if ocsf else ''}",
    ]
    return "\n".join([*lines, *(_row(column, ocsf) for column in table.columns)])


def _row(column: Column, ocsf: bool) -> str:
    domain = ": " + ", ".join(f"`{word}`" for word in column.domain) if column.domain else ""
    cells = [
        f"`{column.name}`",
        f"{column.kind}{'?' if column.nullable else ''}",
        _cell(column.meaning) + domain,
        column.unit,
    ]
    if ocsf:
        cells.append(f"`{column.ocsf}`" if column.ocsf else "")
    return "| " + " | ".join(cells) + " |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
