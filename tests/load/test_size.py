"""The agent is one small file."""

from __future__ import annotations

from pathlib import Path

import pytest

AGENT = Path(__file__).parents[2] / "build" / "kaimon-agent"


def test_the_stripped_agent_is_under_12_mb() -> None:
    if not AGENT.exists():
        pytest.skip("needs build/kaimon-agent (script/build-agent)")
    image = AGENT.read_bytes()
    assert b".debug_info" not in image
    assert len(image) < 12_000_000
