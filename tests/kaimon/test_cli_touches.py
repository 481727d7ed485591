"""`kaimon touches`: who touched a path, within the range that was asked, with what the answer can speak of."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest
import typer
from click.testing import Result

from kaimon.cli import land, tenant, touches

NOW = datetime.now(UTC).replace(microsecond=0)
PATH = "/etc/\\x1b[31mshadow"


def app(command: Callable[..., None]) -> typer.Typer:
    made = typer.Typer()
    made.command()(command)
    return made


@pytest.fixture
def ask(run: Callable[..., Result], home: Path, staging: ModuleType) -> Callable[..., Result]:
    """Two days of acme have landed: of the path, of one that leads to it, and of another."""
    assert run(tenant.app, "create", "acme").exit_code == 0
    for number, moment in enumerate((NOW - timedelta(days=2), NOW), 1):
        rows = (
            {"seq": number * 10, "path": PATH, "user": "eve"},
            {"seq": number * 10 + 1, "path": "/tmp/x", "target_path": PATH, "operation": "rename"},
            {"seq": number * 10 + 2, "path": PATH + "x"},
        )
        staging.stage(home, "acme", "n1", number, [staging.Batch(number, rows, received=moment)])
    assert run(app(land.command), "--all", "--until-idle").exit_code == 0
    return lambda *words: run(app(touches.command), "--tenant", "acme", *words)


def test_what_touched_a_path_is_listed_with_what_is_known(ask: Callable[..., Result]) -> None:
    answer = ask("--path", PATH)
    assert answer.exit_code == 0, answer.output
    *_, first, second, total = answer.stdout.splitlines()
    assert (total, "eve" in first, "rename" in second) == ("(2 rows)", True, True)
    assert answer.stderr.startswith("coverage ")
    assert ": 100% of what was seen; 0 known lost, " in answer.stderr
    since = (NOW - timedelta(days=3)).date().isoformat()
    whole = json.loads(ask("--path", PATH, "--from", since, "--json").stdout)
    assert (whole["found"], [row["seq"] for row in whole["touches"]]) == (4, [10, 11, 20, 21])
    assert whole["touches"][0]["time"] == (NOW - timedelta(days=2, seconds=1)).strftime("%Y-%m-%dT%H:%M:%S.000000Z")
    assert whole["coverage"].startswith("coverage ")


def test_a_range_bounds_the_answer_to_the_moment(ask: Callable[..., Result]) -> None:
    moment = (NOW - timedelta(seconds=1)).isoformat()
    assert json.loads(ask("--path", PATH, "--to", moment, "--json").stdout)["found"] == 0
    until = (NOW - timedelta(seconds=1, microseconds=-1)).isoformat()
    assert json.loads(ask("--path", PATH, "--to", until, "--json").stdout)["found"] == 1


def test_more_rows_than_a_query_may_return_are_cut_off_and_said(
    ask: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAIMON_QUERY_ROW_LIMIT", "1")
    answer = ask("--path", PATH)
    assert answer.stdout.splitlines()[-1] == "(1 row)"
    assert "2 rows were found: the rest was cut off" in answer.stderr
    found = json.loads(ask("--path", PATH, "--json").stdout)
    assert (found["found"], len(found["touches"])) == (2, 1)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--path", "etc/shadow"), "an absolute path"),
        (("--path", "/x", "--tenant", "nobody"), "there is no tenant 'nobody'"),
        (("--path", "/x", "--from", "soon"), "--from wants a date"),
    ],
)
def test_a_refusal_is_told_on_stderr_with_exit_code_2(
    ask: Callable[..., Result], words: tuple[str, ...], complaint: str
) -> None:
    answer = ask(*words)
    assert (answer.exit_code, complaint in answer.stderr) == (2, True), answer.output
