"""The home."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from kaimon.base.settings import PROJECT_ROOT, HomeSettings


def test_the_home_is_var_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KAIMON_HOME", raising=False)
    assert HomeSettings().home == PROJECT_ROOT / "var"
    monkeypatch.setenv("KAIMON_HOME", str(tmp_path))
    assert HomeSettings().home == tmp_path
    assert HomeSettings(home=tmp_path / "x").home == tmp_path / "x"


def test_settings_do_not_change_under_those_who_read_them(tmp_path: Path) -> None:
    settings = HomeSettings(home=tmp_path)
    with pytest.raises(ValidationError, match="frozen"):
        settings.home = tmp_path / "elsewhere"
