"""The Great Expectations suite: which tenant breaks which rule, and nothing left behind."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipelines.checks.rules import RULES
from pipelines.checks.suite import validate


def metrics(**tenants: dict[str, int | None]) -> pl.DataFrame:
    clean = {rule.metric: 0 for rule in RULES}
    rows: list[dict[str, Any]] = [{"tenant": tenant} | clean | broken for tenant, broken in tenants.items()]
    return pl.DataFrame(rows, schema={"tenant": pl.String} | {rule.metric: pl.Int64 for rule in RULES})


@pytest.mark.parametrize("rule", [rule.metric for rule in RULES])
def test_each_rule_fails_the_tenant_that_breaks_it_and_only_that_one(rule: str) -> None:
    assert validate(metrics(good={}, bad={rule: 1})) == {"good": [], "bad": [rule]}


def test_a_metric_that_could_not_be_computed_fails() -> None:
    assert validate(metrics(good={}, bad={"nulls": None, "doubled_rows": -1})) == {
        "good": [],
        "bad": ["doubled_rows", "nulls"],
    }


def test_no_tenant_is_no_failure() -> None:
    assert validate(metrics()) == {}


def test_a_run_leaves_no_temporary_folder_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    validate(metrics(good={}))
    assert not list(tmp_path.iterdir())
