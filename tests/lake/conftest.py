from __future__ import annotations

from pathlib import Path

import pytest

from lake.settings import LakeSettings

STAGING = Path(__file__).parent / "staging.py"


@pytest.fixture
def settings(tmp_path: Path) -> LakeSettings:
    return LakeSettings(home=tmp_path)
