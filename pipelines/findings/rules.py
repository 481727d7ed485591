"""The rules: Sigma YAML files of ours, read once, each with its ATT&CK technique, severity, rationale and advice."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import polars as pl
from sigma.collection import SigmaCollection
from sigma.correlations import (
    SigmaCorrelationConditionOperator,
    SigmaCorrelationRule,
    SigmaCorrelationType,
)
from sigma.rule import SigmaRule

from lake.schema import TABLES
from pipelines.findings.sigma import UnsupportedRuleError, compile_condition

FOLDER: Final = Path(__file__).parent / "rules"
Severity = Literal["low", "medium", "high", "critical"]
SEVERITIES: Final[tuple[Severity, ...]] = ("critical", "high", "medium", "low")
"""The gravest first."""

DERIVED: Final = {
    "succeeded": pl.col("result").fill_null(0) == 0,
    "gained_setuid": ((pl.col("mode").fill_null(0) & 0o4000 != 0) & (pl.col("mode_before").fill_null(0) & 0o4000 == 0)),
    "added_ending": pl.col("target_path").str.starts_with(pl.concat_str("path", pl.lit("."))).fill_null(value=False),
}
"""Fields that rules over events may name besides the table's columns.

`succeeded`: done, or attempted where only attempts are seen. `gained_setuid`: the set-user-ID bit is set now and was
not before, or nobody knows what was before. `added_ending`: a rename that only added an ending to the name.
"""

_SOURCES: Final = {"file_event": "events", "host_coverage": "completeness"}
"""Sigma's log source category → the table that it is."""


@dataclass(frozen=True)
class Window:
    """Finds only where, within `seconds`, one `group` did it to at least `least` different values of `field`."""

    group: tuple[str, ...]
    field: str
    least: int
    seconds: int


@dataclass(frozen=True)
class Rule:
    """One rule, compiled: `name` is its file's, `matches` a boolean expression over `table`'s rows.

    `rationale` says why it matters, `advice` what to do; both are ours and go into summaries as they are.
    """

    name: str
    rule_id: str
    title: str
    severity: Severity
    attack_id: str
    attack_version: str
    rationale: str
    advice: str
    table: str
    matches: pl.Expr
    window: Window | None


@cache
def rules() -> tuple[Rule, ...]:
    """Return every rule of ours, by name.

    Raises:
        UnsupportedRuleError: a file asks for what is not compiled here, or lacks what a rule of ours must say.
        sigma.exceptions.SigmaError: a file is no Sigma.
    """
    return tuple(read_rule(path.stem, path.read_text()) for path in sorted(FOLDER.glob("*.yml")))


def by_name() -> dict[str, Rule]:
    """Return the rules by name."""
    return {rule.name: rule for rule in rules()}


def read_rule(name: str, text: str) -> Rule:
    """Return the rule of one file: a Sigma rule, or one with a correlation over it.

    Raises:
        UnsupportedRuleError, sigma.exceptions.SigmaError: as for `rules`.
    """
    collection = SigmaCollection.from_yaml(text)
    collection.resolve_rule_references()
    bases = [one for one in collection.rules if isinstance(one, SigmaRule)]
    windows = [one for one in collection.rules if isinstance(one, SigmaCorrelationRule)]
    if len(bases) != 1 or len(windows) > 1:
        raise UnsupportedRuleError(f"{name}: want one rule, and one correlation at most")
    base, told = bases[0], (windows or bases)[0]
    table = _SOURCES.get(base.logsource.category or "")
    if table is None or base.taxonomy != "kaimon" or len(base.detection.parsed_condition) != 1:
        raise UnsupportedRuleError(f"{name}: want taxonomy kaimon, one condition, and a category of {list(_SOURCES)}")
    fields = {column.name for column in TABLES[table].columns} | (DERIVED.keys() if table == "events" else set())
    ours = {key: str(value).strip() for key, value in told.custom_attributes.get("kaimon", {}).items()}
    techniques = [tag.name.upper() for tag in told.tags if tag.namespace == "attack" and tag.name[1:2].isdigit()]
    level = str(told.level).lower()
    if len(techniques) != 1 or level not in SEVERITIES or not {"attack_version", "rationale", "advice"} <= ours.keys():
        raise UnsupportedRuleError(f"{name}: want a level, one ATT&CK technique and its version, rationale and advice")
    return Rule(
        name=name,
        rule_id=str(told.id),
        title=str(told.title),
        severity=next(one for one in SEVERITIES if one == level),
        attack_id=techniques[0],
        attack_version=ours["attack_version"],
        rationale=ours["rationale"],
        advice=ours["advice"],
        table=table,
        matches=compile_condition(base.detection.parsed_condition[0].parsed, fields),
        window=_window(name, windows[0], fields) if windows else None,
    )


def _window(name: str, rule: SigmaCorrelationRule, fields: set[str]) -> Window:
    condition: Any = rule.condition
    field, group = getattr(condition, "fieldref", None), tuple(rule.group_by or ())
    counted = rule.type == SigmaCorrelationType.VALUE_COUNT
    if not counted or getattr(condition, "op", None) != SigmaCorrelationConditionOperator.GTE or not group:
        raise UnsupportedRuleError(f"{name}: of correlations only value_count with gte and group-by is compiled")
    if unknown := {field, *group} - fields:
        raise UnsupportedRuleError(f"{name}: there is no field {sorted(map(str, unknown))}")
    return Window(group, str(field), int(condition.count), int(rule.timespan.seconds))
