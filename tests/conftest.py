"""What the tests of several folders share."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

STAGING = Path(__file__).parent / "lake" / "staging.py"


@pytest.fixture(scope="session")
def staging() -> ModuleType:
    """The maker of staged segments."""
    spec = importlib.util.spec_from_file_location("kaimon_test_staging", STAGING)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
