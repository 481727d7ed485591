"""What is held by day is what the tables' files are: their bytes on disk, and the rows that a reader sees."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from lake.held import TableDay, held_by_day
from lake.reads import scan
from lake.settings import LakeSettings
from tests.dashboards.portal import filled

DAY = filled.DAY


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LakeSettings:
    monkeypatch.setenv("KAIMON_HOME", str(tmp_path))
    return LakeSettings()


def on_disk(settings: LakeSettings, one: TableDay, partition: str) -> int:
    folder = settings.home / "lake" / "acme" / one.table / f"{partition}={one.day}"
    return sum(file.stat().st_size for file in folder.glob("*.parquet"))


def test_each_day_of_each_table_is_told_with_its_bytes_and_rows(settings: LakeSettings) -> None:
    filled.fill(settings, "acme")
    for later in (1, 2):
        filled.write("findings", DAY + timedelta(days=later), [{"severity": "low"}] * later, settings, "acme")
    filled.write("hosts", DAY, [{"hostname": "web"}], settings, "acme")
    filled.fill(settings, "bolt")
    found = {(one.table, one.day): one for one in held_by_day("acme", settings)}
    assert set(found) == {
        *((table, DAY) for table in ("events", "completeness", "activity")),
        *(("findings", DAY + timedelta(days=later)) for later in (1, 2)),
        ("hosts", None),
    }
    for (table, day), one in found.items():
        if day is not None:
            assert one.bytes == on_disk(settings, one, "event_day") > 0
            assert one.rows == scan("acme", table, day, day, settings).collect().height
        assert one.files == 1
    assert found["hosts", None].rows == 1


def test_of_a_tenant_that_never_sent_anything_nothing_is_held(settings: LakeSettings) -> None:
    assert held_by_day("acme", settings) == []
    assert not (settings.home / "lake" / "acme").exists()


def test_an_id_that_leads_elsewhere_is_refused(settings: LakeSettings) -> None:
    with pytest.raises(ValueError, match="not a tenant's id"):
        held_by_day("../acme", settings)
