"""What the fuzzers' tests share: a fuzzer is a program beside its test, loaded as a module."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def fuzzer() -> Callable[[str], ModuleType]:
    """Load a fuzzer by its name."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"kaimon_fuzz_{name}", Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
