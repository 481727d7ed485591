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


def test_what_is_wrong_with_one_setting_shows_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from dashboards.portal.settings import PortalSettings

    monkeypatch.setenv("KAIMON_OIDC_CLIENT_SECRET", "not-for-a-terminal")
    monkeypatch.setenv("KAIMON_PORTAL_URL", "http://kaimon.example")
    with pytest.raises(ValidationError, match="portal_url: want https") as caught:
        PortalSettings(home=tmp_path)
    assert "not-for-a-terminal" not in str(caught.value)
