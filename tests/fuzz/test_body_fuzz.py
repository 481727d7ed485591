"""The fuzzer, for a moment and from the same beginning: no crash, and memory within its bound."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("atheris", reason="the fuzzer has no build for this machine")

SECONDS = 12


@pytest.fixture(scope="module")
def body(fuzzer: Callable[[str], ModuleType]) -> ModuleType:
    return fuzzer("body")


def test_whatever_a_body_is_it_is_a_batch_or_refused_within_memory(body: ModuleType, tmp_path: Path) -> None:
    found = body.fuzz(SECONDS, tmp_path)
    assert found["crashes"] == [], (tmp_path / "log").read_text(errors="replace")[-4_000:]
    assert found["executions"] > len(body.first_inputs())
    assert found["inputs"] > 0
    assert 0 < found["peak_rss_mb"] <= body.MOST_RSS_MB
