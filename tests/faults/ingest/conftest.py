"""What the crash tests of ingest share with its other tests: a host that speaks the wire."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def wire() -> ModuleType:
    """What a test needs to speak as a host: see tests/ingest/wire.py."""
    path = Path(__file__).parents[2] / "ingest" / "wire.py"
    spec = importlib.util.spec_from_file_location("wire", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules.setdefault("wire", importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    return module
