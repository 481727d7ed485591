"""What the fault tests of ingest share: a host that speaks the wire, and hosts that send until they are answered."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules.setdefault(path.stem, importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    return module


_WIRE = _load(Path(__file__).parents[2] / "ingest" / "wire.py")
_load(Path(__file__).with_name("senders.py"))


@pytest.fixture(scope="session")
def wire() -> ModuleType:
    """What a test needs to speak as a host: see tests/ingest/wire.py."""
    return _WIRE
