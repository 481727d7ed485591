"""Names that an attacker may have chosen, made safe to look at."""

from __future__ import annotations

import unicodedata

_INVISIBLE = frozenset({"Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp"})


def visible(name: str, limit: int = 60) -> str:
    r"""Return `name` with every invisible, reordering or unassigned character as `\u{hex}`, and its middle cut.

    Escaping for HTML is the template's business; this only makes what is there be seen. Combining marks beyond
    three in a row are shown the same way, so that a name cannot climb over the lines around it.
    """
    shown: list[str] = []
    marks = 0
    for character in name:
        category = unicodedata.category(character)
        marks = marks + 1 if category in {"Mn", "Me"} else 0
        blank = category == "Zs" and character != " "
        odd = category in _INVISIBLE or marks > 3 or blank
        shown.append(f"\\u{{{ord(character):x}}}" if odd else character)
    text = "".join(shown)
    if not text.strip():
        return "(blank)" if text else "(empty)"
    if len(text) > limit:
        head = (limit - 1) * 2 // 3
        text = f"{text[:head]}…{text[len(text) - (limit - 1 - head) :]}"
    return text
