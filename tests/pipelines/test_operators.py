"""What operators see in Dagster: who looks after an asset, who is stale, who breaks which rule by how much."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest

from pipelines.checks.report import report
from pipelines.checks.rules import RULES
from pipelines.definitions import defs
from tenancy.hints import mark_staged

START = datetime(2026, 3, 4, tzinfo=UTC)


def test_every_asset_says_what_it_is_and_who_looks_after_it() -> None:
    specs = [spec for asset in defs.assets or [] for spec in _specs(asset)]
    assert len(specs) > 10
    lacking = [spec.key.to_user_string() for spec in specs if not spec.description or not spec.owners]
    assert not lacking


def _specs(asset: Any) -> list[dg.AssetSpec]:
    return [asset] if isinstance(asset, dg.AssetSpec) else list(asset.specs)


def fresh(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    (evaluation,) = [one for one in result.get_asset_check_evaluations() if one.check_name == "fresh"]
    return evaluation


def test_a_landing_run_names_the_tenant_that_is_stale_and_no_other(
    home: Any, load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = home.tenant("good"), home.tenant("bad")
    load.do(START)
    load.cut(START, final=True)
    home.stage(good, load)
    check = fresh(home.run("events"))
    assert check.passed
    assert f"| {good} | 2026-" in str(check.metadata["watermarks"].value)
    # A hint of a segment that the store does not hold: it waits for ever.
    mark_staged(home.db, [(bad, "node-9", 7)])
    monkeypatch.setenv("KAIMON_ALERT_STALE_S", "0.001")
    check = fresh(home.run("events"))
    assert not check.passed
    assert check.severity is dg.AssetCheckSeverity.WARN
    assert list(check.metadata["stale"].value) == [bad]  # type: ignore[call-overload]
    assert f"| {bad} | — | — |" in str(check.metadata["watermarks"].value)


def test_the_report_names_who_breaks_a_rule_and_by_how_much_worst_first() -> None:
    broken = {"a": ["nulls"], "b": [], "c": ["nulls", "hosts_off_volume"], "d": ["nulls"]}
    numbers: dict[str, dict[str, Any]] = {"a": {"nulls": 2}, "c": {"nulls": -1200, "hosts_off_volume": 1}, "d": {}}
    rows = {line.split("`")[1]: line for line in report(broken, numbers).splitlines()[2:]}
    assert rows.keys() == {rule.metric for rule in RULES}
    assert rows["nulls"].endswith("| 3 | d: not known, c: -1,200, a: 2 |")
    assert rows["hosts_off_volume"].startswith("| events | `hosts_off_volume` (warns) |")
    assert rows["doubled_rows"].endswith("| 0 |  |")


def test_the_report_is_short_however_many_tenants_there_are() -> None:
    many = {f"t{number:04}": ["nulls"] for number in range(2000)}
    told = report(many, {tenant: {"nulls": 1} for tenant in many})
    assert "| 2000 | t0000: 1," in told
    assert "and 1980 more" in told
    assert len(told) < 5000
