"""Rows on a terminal: whatever bytes an attacker chose for a name, nothing that is printed acts on the terminal."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import signal
import sys
import unicodedata
from collections.abc import Sequence
from typing import Any, Final

from kaimon.base.sheets import no_formula

_CATEGORIES: Final = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_SUSPECT: Final = re.compile(r"[^\x20-\x7e]")
_PAD: Final = 60
"""Widest column that shorter values are padded for; a longer value is printed whole and pushes its row."""


def inert(text: str) -> str:
    r"""Return `text` with what a terminal would act upon, or hide, written out: `\x1b`, `\u202e`.

    That is control, format (bidirectional overrides, zero-width), surrogate, private and unassigned characters and
    line separators. All else stays as it is.
    """
    return _SUSPECT.sub(_written_out, text)


def render(columns: Sequence[str], rows: Sequence[Sequence[Any]], form: str) -> str:
    """Return rows as text that ends in a newline.

    Args:
        columns: their names.
        rows: values; times as text already.
        form: `table` for people; `json`, an array of objects; `csv`, with a header (RFC 4180, but lines end in LF;
            text that a spreadsheet would compute begins with an apostrophe).
    """
    if form == "json":
        # Escapes of JSON itself, so that a program reads back what was there.
        objects = [{name: _finite(value) for name, value in zip(columns, row, strict=True)} for row in rows]
        text = json.dumps(objects, ensure_ascii=False, indent=1, default=_other, allow_nan=False)
        return _SUSPECT.sub(_json_escape, text) + "\n"
    cells = [[_cell(value) for value in row] for row in rows]
    if form == "csv":
        target = io.StringIO()
        writer = csv.writer(target, lineterminator="\n")
        writer.writerow([no_formula(inert(name)) for name in columns])
        # A number stays as it is: its minus begins no formula.
        writer.writerows(
            [no_formula(cell) if isinstance(value, str) else cell for cell, value in zip(line, row, strict=True)]
            for line, row in zip(cells, rows, strict=True)
        )
        return target.getvalue()
    return _table([inert(name) for name in columns], cells, [_is_number(rows, index) for index in range(len(columns))])


def write(text: str) -> None:
    """Print on standard output; a character that its encoding lacks is written out, never an error.

    A reader who has seen enough (`| head`) ends the command without a word, as the shell's own end.
    """
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError as error:
        # What is left in the buffer would be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(128 + signal.SIGPIPE) from error


def _table(columns: list[str], cells: list[list[str]], right: list[bool]) -> str:
    widths = [min(max([len(name), *(len(row[index]) for row in cells)]), _PAD) for index, name in enumerate(columns)]
    lines = [columns, ["-" * width for width in widths], *cells]
    text = "".join(
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(line, widths, right, strict=True)
        ).rstrip()
        + "\n"
        for line in lines
    )
    return text + f"({len(cells):,} row{'' if len(cells) == 1 else 's'})\n"


def _cell(value: Any) -> str:
    """Return a value as inert text; nothing for null."""
    if value is None:
        return ""
    if isinstance(value, str):
        return inert(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | dict | tuple):
        return inert(json.dumps(value, ensure_ascii=False, default=_other))
    return inert(str(_other(value)))


def _other(value: Any) -> Any:
    """Return what JSON has no word for: bytes as hex, decimals without a fraction as numbers, all else as text."""
    if isinstance(value, bytes):
        return value.hex()
    if hasattr(value, "as_integer_ratio"):
        return int(value) if value == int(value) else str(value)
    return str(value)


def _finite(value: Any) -> Any:
    """Return a value whose floats JSON can say; those it cannot as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _is_number(rows: Sequence[Sequence[Any]], index: int) -> bool:
    values = [row[index] for row in rows if row[index] is not None]
    return bool(values) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _written_out(found: re.Match[str]) -> str:
    character = found[0]
    if unicodedata.category(character) not in _CATEGORIES:
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escape(found: re.Match[str]) -> str:
    character = found[0]
    if character == "\n" or unicodedata.category(character) not in _CATEGORIES:
        return character
    return "".join(f"\\u{unit:04x}" for unit in _utf16(character))


def _utf16(character: str) -> list[int]:
    raw = character.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(raw[index : index + 2], "big") for index in range(0, len(raw), 2)]
