"""Tables as plain text for the demo: one line a row, names as they are stored (escaped, so harmless)."""

from __future__ import annotations

import polars as pl

from kaimon.local.compare import Comparison


def columns(frame: pl.DataFrame) -> str:
    """Return a frame as aligned columns under their names."""
    text = frame.select(pl.all().cast(pl.String).fill_null("-"))
    widths = {name: max([len(name), *text[name].str.len_chars().to_list()]) for name in text.columns}
    lines = ["  ".join(name.ljust(widths[name]) for name in text.columns)]
    lines += [
        "  ".join(str(row[name]).ljust(widths[name]) for name in text.columns) for row in text.iter_rows(named=True)
    ]
    return "\n".join(line.rstrip() for line in lines)


def events(marked: pl.DataFrame) -> str:
    """Return the marked events, oldest first."""
    name = pl.when(pl.col("target_path").is_null()).then("path").otherwise(pl.format("{} -> {}", "path", "target_path"))
    return columns(
        marked.select(
            pl.col("time").dt.strftime("%H:%M:%S%.6f"),
            "operation",
            "user",
            "process",
            "pid",
            "path_status",
            name.alias("path"),
        )
    )


def rollups(activity: pl.DataFrame, completeness: pl.DataFrame) -> str:
    """Return the two rollups of the day."""
    hour = pl.col("hour").dt.strftime("%Y-%m-%d %H:%M")
    parts = ("activity", activity), ("completeness", completeness)
    return "\n" + "\n".join(f"{name}\n{columns(frame.with_columns(hour))}\n" for name, frame in parts)


def comparison(found: Comparison) -> str:
    """Return how the generator's log and the table differ, if they do."""
    head = f"Generator: {found.expected} operations done, {found.found} found in the table"
    if found.equal:
        return f"{head}, each exactly once"
    parts = [head]
    if not found.missing.is_empty():
        parts.append(f"missing from the table:\n{columns(found.missing)}")
    if not found.surplus.is_empty():
        parts.append(f"in the table but not done:\n{columns(found.surplus)}")
    return "\n".join(parts)
