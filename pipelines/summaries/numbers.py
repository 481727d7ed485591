"""How numbers read: grouped digits, honest percentages, a dash for what nobody knows."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Final

UNKNOWN: Final = "\N{EM DASH}"
"""Never a 0 for what is not known."""


def show_count(value: int | None) -> str:
    """Return `1,234`; a dash for null."""
    return UNKNOWN if value is None else f"{value:,}"


def show_percent(value: float | None) -> str:
    """Return `99.98%`, rounded down, so that 100% is only said when it is all; a dash for null."""
    if value is None:
        return UNKNOWN
    if value >= 100:
        return "100%"
    return f"{math.floor(value * 100) / 100:.2f}%"


def show_moment(value: datetime | None, *, with_day: bool) -> str:
    """Return `02:41 UTC`, or `4 March, 02:41 UTC`; a dash for null. `value` is aware and in UTC."""
    if value is None:
        return UNKNOWN
    return f"{value.day} {value:%B, %H:%M} UTC" if with_day else f"{value:%H:%M} UTC"


def whole(value: float) -> int:
    """Return the nearest whole number; a half goes away from zero, as in SQL, so that both come to the same."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def show_change(value: float | None) -> str:
    """Return `+12%`, `\N{MINUS SIGN}3%` or `\N{PLUS-MINUS SIGN}0%`; a dash for null."""
    if value is None:
        return UNKNOWN
    rounded = whole(value)
    if rounded == 0:
        return "\N{PLUS-MINUS SIGN}0%"
    return f"{'+' if rounded > 0 else chr(0x2212)}{abs(rounded):,}%"
