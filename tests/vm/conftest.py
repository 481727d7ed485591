"""What the tests of the capture table share: each kernel is booted once, and each mode run once, a session."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import behaviour
import kernels


@functools.cache
def _boot(name: str) -> tuple[dict[str, behaviour.Report], str]:
    return behaviour.virtual(name)


@functools.cache
def _here(mode: str) -> behaviour.Report:
    return behaviour.native(kernels.ROOT / "build" / "kaimon-agent", mode)


@pytest.fixture
def boot() -> Callable[[str, str], behaviour.Report]:
    """The report of a mode on a kernel; skips where the kernel or QEMU is not to be had."""

    def report(name: str, mode: str) -> behaviour.Report:
        try:
            reports, said = _boot(name)
        except kernels.UnavailableError as error:
            pytest.skip(str(error))
        assert mode in reports, said
        return reports[mode]

    return report


@pytest.fixture
def here() -> Callable[[str], behaviour.Report]:
    """The report of a mode on this machine; skips where the agent does not capture in it."""

    def report(mode: str) -> behaviour.Report:
        try:
            return _here(mode)
        except RuntimeError as error:
            if mode != "sys_exit" and "is not to be had here" in str(error):
                pytest.skip(f"this kernel does not allow {mode}")
            raise

    return report
