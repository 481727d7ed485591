"""What is printed on a terminal."""

from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
import sys
from datetime import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaimon.cli.terminal import inert, render

FORMS = ("table", "json", "csv")


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x9b31m", "\\x9b31m"),
        ("a\nb\rc\td\x07\x7f", "a\\x0ab\\x0dc\\x09d\\x07\\x7f"),
        ("/etc/\u202egnp.sh", "/etc/\\u202egnp.sh"),
        ("in\u200bvis\ufeffible", "in\\u200bvis\\ufeffible"),
        ("line\u2028sep", "line\\u2028sep"),
        ("\U000e0041tag", "\\U000e0041tag"),
        ("naïve-文件-🙂 ok", "naïve-文件-🙂 ok"),
    ],
)
def test_what_would_act_on_a_terminal_is_written_out(text: str, printed: str) -> None:
    assert inert(text) == printed


@given(st.text(), st.sampled_from(FORMS))
def test_no_value_or_column_name_can_act_in_any_form(text: str, form: str) -> None:
    printed = render([text, "b"], [[text, {text: [text]}]], form)
    assert inert(printed.replace("\n", "")) == printed.replace("\n", "")
    if form == "table":
        assert printed.count("\n") == 4


@given(st.text())
def test_json_reads_back_as_it_was(text: str) -> None:
    assert json.loads(render(["a"], [[text], [None]], "json")) == [{"a": text}, {"a": None}]


def test_every_kind_of_value_can_be_printed_in_every_form() -> None:
    values = [
        1,
        1.5,
        float("nan"),
        True,
        None,
        "x",
        b"\xff",
        Decimal(12),
        Decimal("1.50"),
        [1, {"a": b"\x00"}],
        time(1, 2),
    ]
    columns = [f"c{index}" for index in range(len(values))]
    assert json.loads(render(columns, [values], "json"))[0]["c8"] == "1.50"
    row = list(csv.reader(io.StringIO(render(columns, [values], "csv"))))[1]
    assert row == ["1", "1.5", "nan", "true", "", "x", "ff", "12", "1.50", '[1, {"a": "00"}]', "01:02:00"]
    assert render(columns, [values], "table").endswith("(1 row)\n")


def test_a_table_lines_up_and_numbers_stand_right() -> None:
    assert render(["name", "n"], [["a", 5], ["long", 10]], "table") == (
        "name   n\n----  --\na      5\nlong  10\n(2 rows)\n"
    )


def test_no_rows_still_have_a_head() -> None:
    assert render(["a"], [], "table") == "a\n-\n(0 rows)\n"
    assert render(["a"], [], "csv") == "a\n"
    assert json.loads(render(["a"], [], "json")) == []


def test_a_reader_who_has_seen_enough_ends_the_command_without_a_word() -> None:
    code = "from kaimon.cli.terminal import write\nwhile True: write('a line of many\\n')"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline() == b"a line of many\n"
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(30) == 128 + signal.SIGPIPE
