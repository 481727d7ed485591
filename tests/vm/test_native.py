"""The behaviour suite on this very machine, in each mode that its kernel allows, against the committed table."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import kernels
import pytest
import table
from behaviour import Report

pytestmark = pytest.mark.root
MODES = ("fentry", "kprobe", "sys_exit")


@pytest.fixture(autouse=True)
def _skip_where_the_agent_cannot_run() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if not Path("/sys/kernel/btf/vmlinux").exists():
        pytest.skip("needs a kernel with BTF")
    if not (kernels.ROOT / "build" / "kaimon-agent").exists():
        pytest.skip("needs build/kaimon-agent (script/build-agent)")


@pytest.mark.parametrize("mode", MODES)
def test_every_deed_is_told_once_or_named_a_blind_spot(here: Callable[[str], Report], mode: str) -> None:
    report = here(mode)
    assert report["failures"] == []
    assert report["mode"] == mode
    assert sum(cell["found"] == "once" for cell in report["cells"]) > 200


@pytest.mark.parametrize("mode", MODES)
def test_the_committed_table_says_what_was_seen(here: Callable[[str], Report], mode: str) -> None:
    report = here(mode)
    column = table.column_of(report)
    if column not in table.committed():
        pytest.skip(f"the table has no column for {column}")
    assert table.differences(report, column) == []
