"""What a day's checks said, as a page for Dagster's own: each suite's rules, and who breaks them by how much.

Great Expectations' Data Docs would load programs and styles from other people's servers, so we show its results here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pipelines.checks.rules import RULES, Rule

_NAMED: Final = 20


def report(
    broken: Mapping[str, Sequence[str]], numbers: Mapping[str, Mapping[str, Any]], rules: Sequence[Rule] = RULES
) -> str:
    """Return Markdown: a row a rule with its suite, how many tenants break it, and the worst of them with its number.

    Args:
        broken: for each tenant that was measured, the rules that it breaks, warnings among them.
        numbers: each tenant's metrics row; ids and counts.
        rules: those that were looked at.
    """
    lines = ["| suite | rule | must be 0 | tenants | by |", "|---|---|---|---|---|"]
    for rule in rules:
        breaking = [tenant for tenant, found in broken.items() if rule.metric in found]
        breaking.sort(key=lambda tenant: (-_size(numbers.get(tenant, {}).get(rule.metric)), tenant))
        named = [f"{tenant}: {_said(numbers.get(tenant, {}).get(rule.metric))}" for tenant in breaking[:_NAMED]]
        if len(breaking) > _NAMED:
            named.append(f"and {len(breaking) - _NAMED} more")
        gate = "" if rule.gates else " (warns)"
        lines.append(f"| {rule.table} | `{rule.metric}`{gate} | {rule.why} | {len(breaking)} | {', '.join(named)} |")
    return "\n".join(lines)


def _size(number: int | None) -> float:
    return float("inf") if number is None else abs(number)


def _said(number: int | None) -> str:
    return "not known" if number is None else f"{number:,}"
