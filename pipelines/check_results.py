"""What a day's checks say to Dagster: the check's description, and its result with the report."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Final

import dagster as dg

from pipelines.checks.report import report
from pipelines.checks.rules import Rule
from pipelines.day_checks import Checked
from pipelines.tenant_loop import SHOWN

CHECK: Final = "complete_and_valid"


def check_spec(asset: str, rules: Sequence[Rule]) -> dg.AssetCheckSpec:
    """Describe an asset's check, which blocks what follows when it fails for everybody."""
    told = ["Great Expectations over one metrics row a tenant. Each of these must be 0:", ""]
    told += [f"* `{rule.metric}`: {rule.why}" for rule in rules]
    return dg.AssetCheckSpec(CHECK, asset=asset, blocking=True, description="\n".join(told))


def check_result(checked: Checked, day: date, rules: Sequence[Rule]) -> dg.AssetCheckResult:
    """A failed tenant is a warning, which its day state acts upon; only when all fail is it an error that blocks."""
    failing = checked.failing
    return dg.AssetCheckResult(
        check_name=CHECK,
        passed=not failing,
        severity=dg.AssetCheckSeverity.WARN if checked.passed else dg.AssetCheckSeverity.ERROR,
        metadata={
            "day": day.isoformat(),
            "tenants_passed": len(checked.passed),
            "tenants_failed": len(failing),
            "report": dg.MetadataValue.md(report(checked.said, checked.numbers, rules)),
            "broken": dg.MetadataValue.json(dict(list(failing.items())[:SHOWN])),
            "warned": dg.MetadataValue.json({tenant: rules for tenant, rules in checked.warned.items() if rules}),
            "clones": dg.MetadataValue.json(dict(list(checked.outcome.clones.items())[:SHOWN])),
        },
    )
