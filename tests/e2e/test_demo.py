"""The demo as its user runs it: it passes, it fails when it must, and it says when it is only a replay."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def demo(repository: Path, home: Path, *arguments: str, prefix: tuple[str, ...] = ()) -> tuple[int, list[str]]:
    command = [*prefix, str(repository / "script" / "demo"), "--home", str(home), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=290)
    return done.returncode, done.stdout.splitlines()


@pytest.mark.root
@pytest.mark.slow
def test_every_event_of_the_demo_is_accounted_for(capturing: None, repository: Path, tmp_path: Path) -> None:
    status, lines = demo(repository, tmp_path / "home")
    text = "\n".join(lines)
    assert status == 0, text
    assert lines[-1].startswith("PASS: every event is accounted for")
    assert "REPLAY" not in text
    assert "; 0 unaccounted" in text
    pages = list((tmp_path / "home" / "outbox").rglob("*.html"))
    assert len(pages) >= 1
    assert all(str(page) in text for page in pages[-1:])
    assert "the portal shows it to an Admin who logged in" in text


@pytest.mark.root
@pytest.mark.slow
def test_one_event_dropped_on_its_way_is_noticed_and_named(capturing: None, repository: Path, tmp_path: Path) -> None:
    status, lines = demo(repository, tmp_path / "home", "--drop-one")
    text = "\n".join(lines)
    assert status == 1, text
    assert lines[-1].startswith("FAIL: NOT every event is accounted for"), text
    assert sum(line.startswith("UNACCOUNTED: row ") for line in lines) == 1, text
    assert "; 1 unaccounted" in text


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "expected"), [((), 0), (("--drop-one",), 1)])
def test_a_machine_that_cannot_capture_replays_and_says_so(
    repository: Path, tmp_path: Path, arguments: tuple[str, ...], expected: int
) -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv (util-linux) takes the capabilities away; it is not here")
    status, lines = demo(
        repository, tmp_path / "home", *arguments, prefix=("setpriv", "--bounding-set=-all", "--inh-caps=-all")
    )
    text = "\n".join(lines)
    assert status == expected, text
    said = [line for line in lines if not line.startswith("bootstrap:")]
    assert said[0].startswith("REPLAY: ")
    assert said[-1].startswith("REPLAY: PASS" if expected == 0 else "REPLAY: FAIL")
