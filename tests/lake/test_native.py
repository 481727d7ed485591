"""Compiled code is loaded only if it was made of the source that is here."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest.plain import Reader, reader
from lake.segment_writer import Writer, writer

pytestmark = pytest.mark.skipif(reader() is None, reason="script/build-native found no C compiler")
BUILD = Path(__file__).parents[2] / "script" / "build-native"


def test_both_are_there_if_one_is() -> None:
    assert reader() is not None
    assert writer() is not None


@pytest.mark.parametrize(("name", "made"), [("plain", Reader), ("segment", Writer)])
def test_code_that_was_made_of_another_source_is_not_run(
    tmp_path: Path, name: str, made: Callable[[Path], object]
) -> None:
    other = tmp_path / "other.so"
    subprocess.run([BUILD, name, "--out", other, "--", '-DSOURCE_DIGEST="another"', "-Wno-error"], check=True)
    with pytest.raises(OSError, match="another source"):
        made(other)
    with pytest.raises(OSError, match="nowhere"):
        made(tmp_path / "nowhere.so")


def test_what_nobody_wrote_is_not_built() -> None:
    done = subprocess.run([BUILD, "plane"], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "build-native: want plain or segment, not plane\n")
