"""Redaction of tokens."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaimon.base.redact import TOKEN_PATTERN, redact, redact_event, redact_value

SECRET = "7Zq1" * 8 + "0a1B2c"
TOKEN = f"kmn_hst_{SECRET}"


@pytest.mark.parametrize("kind", ["enr", "hst", "api"])
def test_a_token_becomes_its_kind(kind: str) -> None:
    assert redact(f"Bearer kmn_{kind}_{SECRET}, thanks") == f"Bearer kmn_{kind}_[redacted], thanks"


@pytest.mark.parametrize("kind", ["sk_live", "sk_test", "rk_live", "rk_test", "whsec"])
def test_a_key_of_the_payment_processors_becomes_its_kind(kind: str) -> None:
    assert redact(f"key={kind}_{SECRET}, thanks") == f"key={kind}_[redacted], thanks"


def test_a_name_that_only_ends_as_such_a_key_begins_is_left_alone() -> None:
    assert redact("/srv/disk_test_file1 whsec_abc") == "/srv/disk_test_file1 whsec_abc"


@given(before=st.text(), after=st.text(), cut=st.integers(4, 38))
def test_a_token_is_found_whole_or_cut_in_any_surroundings(before: str, after: str, cut: int) -> None:
    cleaned = redact(f"{before}kmn_hst_{SECRET[:cut]}{after}")
    assert "kmn_hst_[redacted]" in cleaned
    assert not TOKEN_PATTERN.search(cleaned)


@given(st.text())
def test_text_without_tokens_is_left_alone(text: str) -> None:
    if not TOKEN_PATTERN.search(text):
        assert redact(text) == text


class Holder:
    def __repr__(self) -> str:
        return f"Holder({TOKEN})"


@pytest.mark.parametrize(
    "value",
    [
        TOKEN,
        TOKEN.encode(),
        bytearray(TOKEN.encode()),
        b"\xff" + TOKEN.encode(),
        [TOKEN],
        (TOKEN,),
        {TOKEN},
        {"authorization": TOKEN},
        {TOKEN: 1},
        {"deep": [{"er": (TOKEN, b"" + TOKEN.encode())}]},
        Holder(),
        ValueError(TOKEN),
    ],
)
def test_a_token_is_removed_from_every_kind_of_value(value: Any) -> None:
    cleaned = redact_value(value)
    assert SECRET not in repr(cleaned)
    assert "[redacted]" in repr(cleaned)


@pytest.mark.parametrize("value", [None, True, 0, 1.5, "plain", [1, "a"], {"a": {"b": None}}])
def test_plain_values_stay_what_they_are(value: Any) -> None:
    assert redact_value(value) == value


def test_an_event_is_redacted_in_all_its_fields() -> None:
    event = {"event": f"got {TOKEN}", "header": {"authorization": TOKEN}, "rows": 3}
    assert redact_event(None, "info", event) == {
        "event": "got kmn_hst_[redacted]",
        "header": {"authorization": "kmn_hst_[redacted]"},
        "rows": 3,
    }
