"""Tokens as text."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenancy.tokens import ALPHABET, TOKEN_REGEX, TokenFormatError, TokenKind, checksum, index_of, mint, parse

KINDS: tuple[TokenKind, ...] = ("enr", "hst", "api")


@pytest.mark.parametrize("kind", KINDS)
def test_a_minted_token_has_the_documented_shape(kind: TokenKind) -> None:
    token = mint(kind)
    assert re.fullmatch(rf"kmn_{kind}_[0-9A-Za-z]{{38}}", token)
    assert re.search(TOKEN_REGEX, f'Authorization: "{token}"').group() == token
    assert parse(token, kind) == token


@pytest.mark.parametrize("kind", KINDS)
def test_the_documented_expression_finds_whole_tokens_and_nothing_shorter_or_longer(kind: TokenKind) -> None:
    page = (Path(__file__).parents[2] / "docs" / "tokens.md").read_text("utf-8")
    [documented] = re.findall(r"^```\n(.+)\n```$", page, re.MULTILINE)
    assert documented == TOKEN_REGEX
    token = mint(kind)
    for text in (token, f"TOKEN={token}", f'{{"token":"{token}"}}', f"x {token}\n"):
        assert re.findall(documented, text) == [token]
    for length in range(len(token)):
        assert not re.search(documented, token[:length])
    assert not re.search(documented, token + "0")
    assert not re.search(documented, token.replace(f"kmn_{kind}", "kmn_xyz"))


@given(st.text(ALPHABET, min_size=32, max_size=32))
def test_the_checksum_is_the_crc32_of_all_that_precedes_in_six_base62_digits(secret: str) -> None:
    body = f"kmn_hst_{secret}"
    value = 0
    for digit in checksum(body):
        value = value * 62 + "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz".index(digit)
    assert value == zlib.crc32(body.encode())
    assert len(checksum(body)) == 6


def test_a_small_checksum_is_padded_with_zeros() -> None:
    assert checksum("") == "000000"
    small = next(body for body in (f"kmn_hst_{n}" for n in range(100_000)) if zlib.crc32(body.encode()) < 62**5)
    assert checksum(small).startswith("0")


@given(st.integers(0, 37), st.sampled_from(ALPHABET))
def test_one_mistyped_character_is_noticed(position: int, typed: str) -> None:
    token = mint("hst")
    mistyped = token[: 8 + position] + typed + token[9 + position :]
    if mistyped != token:
        with pytest.raises(TokenFormatError):
            parse(mistyped, "hst")


@pytest.mark.parametrize("cut", ["", "kmn_hst_", "x", "kmn_hst_" + "é" * 38, "Bearer " + "a" * 46])
def test_what_is_no_token_is_refused(cut: str) -> None:
    with pytest.raises(TokenFormatError):
        parse(cut, "hst")


@pytest.mark.parametrize("added", ["\n", " ", "0"])
def test_nothing_may_follow_or_precede_a_token(added: str) -> None:
    token = mint("hst")
    for text in (token + added, added + token):
        with pytest.raises(TokenFormatError):
            parse(text, "hst")


def test_a_token_of_one_kind_is_not_one_of_another() -> None:
    with pytest.raises(TokenFormatError):
        parse(mint("enr"), "hst")


def test_a_refusal_never_repeats_what_was_given() -> None:
    token = mint("hst")
    for text in (token[:-1], token[:-1] + ("0" if token[-1] != "0" else "1"), token + "x"):
        with pytest.raises(TokenFormatError) as refused:
            parse(text, "hst")
        assert token[8:20] not in str(refused.value) + repr(refused.value)


def test_the_index_needs_the_key() -> None:
    token = mint("api")
    assert index_of(b"a" * 32, token) == index_of(b"a" * 32, token)
    assert index_of(b"a" * 32, token) != index_of(b"b" * 32, token)
    assert re.fullmatch(r"[0-9a-f]{64}", index_of(b"a" * 32, token))


def test_no_two_tokens_are_the_same() -> None:
    assert len({mint("hst") for _ in range(1000)}) == 1000
