"""Text that a spreadsheet shows and does not compute, whoever chose it."""

from __future__ import annotations

from typing import Final

_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a spreadsheet takes for a formula's beginning; the last four are the wide forms, which some of them read too."""


def no_formula(text: str) -> str:
    """Return `text`, with an apostrophe before it if a spreadsheet would take it for a formula."""
    return f"'{text}" if text.startswith(_STARTS) else text
