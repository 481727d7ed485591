"""The escaping of odd bytes, against the vectors that the agent's tests read too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaimon.base.escape import escape, unescape

VECTORS = Path(__file__).parent / "vectors" / "escape.json"


def test_the_vectors_hold_here_as_they_do_in_the_agent() -> None:
    vectors = json.loads(VECTORS.read_text())
    assert len(vectors) > 10
    for vector in vectors:
        raw = bytes.fromhex(vector["hex"])
        assert escape(raw) == vector["text"], vector
        assert unescape(vector["text"]) == raw, vector


@given(st.binary(max_size=300))
def test_escaping_is_lossless_and_leaves_no_control_character(raw: bytes) -> None:
    text = escape(raw)
    assert unescape(text) == raw
    assert all(character.isprintable() or ord(character) >= 0xA0 for character in text)


@pytest.mark.parametrize("text", ["\\", "\\q", "\\x4", "\\xZZ", "a\\\\\\"])
def test_text_that_no_bytes_escape_to_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="backslash"):
        unescape(text)
