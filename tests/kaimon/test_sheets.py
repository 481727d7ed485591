"""No cell is a formula."""

from __future__ import annotations

import csv
import io

import pytest

from kaimon.base.sheets import no_formula
from kaimon.cli.terminal import render

FORMULAS = [
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "\uff1d1+1",
    "\uff0b1",
    "\uff0d1",
    "\uff201",
]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_shown_and_not_computed(text: str) -> None:
    assert no_formula(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "/srv/a=b", "ann", "a-b", "'=1"])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert no_formula(text) == text


def test_no_name_in_a_querys_csv_is_a_formula_and_numbers_stay_numbers() -> None:
    text = render(["process", "count"], [(name, -3) for name in FORMULAS], "csv")
    rows = list(csv.reader(io.StringIO(text)))[1:]
    assert all(name.startswith(("'", "\\")) for name, _ in rows)
    assert {count for _, count in rows} == {"-3"}
