"""What end-to-end tests need: the repository, and a machine that can capture."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaimon.local.stack import why_no_capture

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def capturing() -> None:
    """Skip where the real agent cannot capture."""
    if (why := why_no_capture()) is not None:
        pytest.skip(f"the agent cannot capture here: {why}")


@pytest.fixture
def repository() -> Path:
    return ROOT
