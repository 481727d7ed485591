"""The compiled reader under sanitizers, for a moment and from the same beginning."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import ModuleType

import pytest

from ingest.plain import reader

pytestmark = pytest.mark.skipif(reader() is None, reason="script/build-native found no C compiler")


@pytest.fixture(scope="module")
def plain(fuzzer: Callable[[str], ModuleType]) -> ModuleType:
    return fuzzer("plain")


def test_no_body_makes_the_compiled_reader_look_beyond_it_or_disagree_with_the_judge(plain: ModuleType) -> None:
    done = plain.fuzz(5, 7)
    assert done.returncode == 0, done.stderr[-4_000:]
    told = json.loads(done.stdout)
    assert 0 < told["plain"] < told["lines"]
    assert 0 < told["vouched"] < told["columns"]
    assert 0 < told["read"] < told["seen_through"] < told["streams"]
