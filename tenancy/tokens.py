"""Tokens as text: how they are made, recognised and indexed, never how they are stored."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
import zlib
from typing import Final, Literal

TokenKind = Literal["enr", "hst", "api"]

ALPHABET: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
TOKEN_REGEX: Final = r"\bkmn_(?:enr|hst|api)_[0-9A-Za-z]{38}\b"  # noqa: S105 - the format, for secret scanners
"""Finds whole tokens in text; the last 6 characters are a checksum that weeds out chance finds."""

_SECRET_CHARACTERS: Final = 32
_CHECK_CHARACTERS: Final = 6
_SHAPES: Final[dict[TokenKind, re.Pattern[str]]] = {
    kind: re.compile(rf"kmn_{kind}_[0-9A-Za-z]{{{_SECRET_CHARACTERS + _CHECK_CHARACTERS}}}")
    for kind in ("enr", "hst", "api")
}


class TokenFormatError(ValueError):
    """Not a token of the wanted kind; the text never holds what was given."""


def mint(kind: TokenKind) -> str:
    """Return a new token with 190 random bits: enrollment (`enr`), host (`hst`) or programming interface (`api`)."""
    body = f"kmn_{kind}_" + "".join(secrets.choice(ALPHABET) for _ in range(_SECRET_CHARACTERS))
    return body + checksum(body)


def parse(text: str, kind: TokenKind) -> str:
    """Return `text` if it is a well-formed token of that kind; says nothing about whether anybody issued it.

    Raises:
        TokenFormatError: another shape, another kind, or a wrong checksum.
    """
    if not _SHAPES[kind].fullmatch(text):
        raise TokenFormatError(f"not a kmn_{kind} token")
    if checksum(text[:-_CHECK_CHARACTERS]) != text[-_CHECK_CHARACTERS:]:
        raise TokenFormatError(f"a kmn_{kind} token with a wrong checksum: mistyped or cut?")
    return text


def has_shape(text: str, kind: TokenKind) -> bool:
    """Say whether `text` is as long as a token of that kind and made of its letters; its checksum is not looked at."""
    return _SHAPES[kind].fullmatch(text) is not None


def index_of(key: bytes, token: str) -> str:
    """Return the HMAC-SHA256 under which a token is stored, in hex: useless without the key, equal only if it is."""
    return index_under(keyed(key), token)


def keyed(key: bytes) -> hmac.HMAC:
    """Return what `index_under` takes in place of a key: most of the work, done once."""
    return hmac.new(key, digestmod=hashlib.sha256)


def index_under(begun: hmac.HMAC, token: str) -> str:
    """Return `index_of` a token.

    Unlike `hmac.digest` it never lets go of the interpreter, which a busy thread would then keep for up to 5 ms.
    """
    index = begun.copy()
    index.update(token.encode("ascii"))
    return index.hexdigest()


def checksum(body: str) -> str:
    """Return the CRC32 of `body` as 6 base62 digits, zero-padded."""
    number = zlib.crc32(body.encode("ascii"))
    digits = []
    for _ in range(_CHECK_CHARACTERS):
        number, digit = divmod(number, len(ALPHABET))
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))
