"""Bytes that an attacker chooses, as text: lossless, and harmless in a log, a table or a terminal (DESIGN §3)."""

from __future__ import annotations

import re
from typing import Final

_ODD: Final = re.compile(r"[\\\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_ESCAPED: Final = re.compile(r"\\(\\|x[0-9a-f]{2})")


def escape(raw: bytes) -> str:
    r"""Return `raw` as text: a byte that is not UTF-8 and each byte of a control character as `\xNN`, `\` as `\\`."""
    return _ODD.sub(_replace, raw.decode("utf-8", "surrogateescape"))


def unescape(text: str) -> bytes:
    """Return the bytes that `escape` was given.

    Raises:
        ValueError: `text` holds a backslash that no escape begins with.
    """
    if _ESCAPED.sub("", text).count("\\"):
        raise ValueError("a backslash that begins no escape")
    return b"".join(
        piece.encode("utf-8") if index % 2 == 0 else (b"\\" if piece == "\\" else bytes([int(piece[1:], 16)]))
        for index, piece in enumerate(_ESCAPED.split(text))
    )


def _replace(found: re.Match[str]) -> str:
    character = found[0]
    if character == "\\":
        return "\\\\"
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))
