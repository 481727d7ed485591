"""The behaviour suite on stock Debian kernels in virtual machines, against the committed table.

`script/test` boots 6.1 on x86; the others take several minutes and wait for `script/test --vm`.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import table
from behaviour import MODES, Report

ALWAYS = "6.1-amd64"
CASES = [(kernel, mode) for kernel, modes in MODES.items() for mode in modes]


@pytest.fixture(autouse=True)
def _skip_what_was_not_asked_for(kernel: str) -> None:
    if kernel != ALWAYS and not os.environ.get("KAIMON_TEST_VM"):
        pytest.skip("only with script/test --vm")


# A boot takes one to three minutes, most of it the verifier's, interpreted.
@pytest.mark.timeout(900)
@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "mode"), CASES)
def test_every_deed_is_told_once_or_named_a_blind_spot(
    boot: Callable[[str, str], Report], kernel: str, mode: str
) -> None:
    report = boot(kernel, mode)
    assert report["failures"] == []
    assert report["mode"] == mode
    assert sum(cell["found"] == "once" for cell in report["cells"]) > 200


@pytest.mark.timeout(900)
@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "mode"), CASES)
def test_the_committed_table_says_what_was_seen(boot: Callable[[str, str], Report], kernel: str, mode: str) -> None:
    report = boot(kernel, mode)
    assert table.differences(report, table.column_of(report)) == []
