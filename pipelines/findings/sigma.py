"""Compiles Sigma conditions to Polars expressions.

Sigma matches without case. Here every string is matched as it is: on Linux `/etc/SUDOERS` is another file.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection
from functools import reduce
from typing import Any, Final

import polars as pl
from sigma.conditions import ConditionAND, ConditionFieldEqualsValueExpression, ConditionNOT, ConditionOR
from sigma.types import (
    CompareOperators,
    SigmaBool,
    SigmaCompareExpression,
    SigmaNull,
    SigmaNumber,
    SigmaString,
    SpecialChars,
)

_COMPARE: Final[dict[CompareOperators, Callable[[Any, Any], pl.Expr]]] = {
    CompareOperators.LT: operator.lt,
    CompareOperators.LTE: operator.le,
    CompareOperators.GT: operator.gt,
    CompareOperators.GTE: operator.ge,
}
_WILD: Final = {SpecialChars.WILDCARD_MULTI: "(?s:.*)", SpecialChars.WILDCARD_SINGLE: "(?s:.)"}


class UnsupportedRuleError(ValueError):
    """A rule asks for something that is not compiled here; better refused than matched wrongly."""


def compile_condition(condition: Any, fields: Collection[str]) -> pl.Expr:
    """Return a boolean expression, never null, of a condition that pySigma has parsed.

    A comparison with a missing value is false, so that its negation is true.

    Args:
        condition: a node of `rule.detection.parsed_condition[n].parsed`.
        fields: the columns that a rule may name.

    Raises:
        UnsupportedRuleError: an unknown field, a keyword without a field, or a modifier that is not known here.
    """
    if isinstance(condition, ConditionAND):
        return reduce(operator.and_, (compile_condition(one, fields) for one in condition.args))
    if isinstance(condition, ConditionNOT):
        return ~compile_condition(condition.args[0], fields)
    if isinstance(condition, ConditionOR):
        return _any_of(condition.args, fields)
    return _leaf(_field(condition, fields), condition.value)


def _any_of(parts: list[Any], fields: Collection[str]) -> pl.Expr:
    """An OR; the strings that one field is compared with become one look each: equal, begins, ends, or a pattern."""
    strings: dict[str, list[SigmaString]] = {}
    made: list[pl.Expr] = []
    for part in parts:
        value = getattr(part, "value", None)
        if isinstance(part, ConditionFieldEqualsValueExpression) and isinstance(value, SigmaString):
            strings.setdefault(_field(part, fields), []).append(value)
        else:
            made.append(compile_condition(part, fields))
    made += [_strings(field, values) for field, values in strings.items()]
    return reduce(operator.or_, made)


def _field(part: Any, fields: Collection[str]) -> str:
    if not isinstance(part, ConditionFieldEqualsValueExpression):
        raise UnsupportedRuleError(f"a {type(part).__name__} is not compiled here")
    if part.field not in fields:
        raise UnsupportedRuleError(f"there is no field {part.field!r}")
    return part.field


def _leaf(field: str, value: Any) -> pl.Expr:
    column = pl.col(field)
    match value:
        case SigmaString():
            return _strings(field, [value])
        case SigmaBool():
            made = column == value.boolean
        case SigmaNumber():
            made = column == value.number
        case SigmaNull():
            return column.is_null()
        case SigmaCompareExpression() if value.op in _COMPARE and isinstance(value.number, SigmaNumber):
            made = _COMPARE[value.op](column, value.number.number)
        case _:
            raise UnsupportedRuleError(f"{field}: a {type(value).__name__} is not compiled here")
    return made.fill_null(value=False)


def _strings(field: str, values: list[SigmaString]) -> pl.Expr:
    column = pl.col(field)
    plain = ["".join(_texts(value)) for value in values if not value.contains_special()]
    made = [_wild(column, list(value.s)) for value in values if value.contains_special()]
    if plain:
        made.append(column.is_in(plain))
    return reduce(operator.or_, made).fill_null(value=False)


def _texts(value: SigmaString) -> list[str]:
    return [part for part in value.s if isinstance(part, str)]


def _wild(column: pl.Expr, parts: list[Any]) -> pl.Expr:
    """A string with wildcards: what it begins, ends with or holds is asked for as such, which is far quicker."""
    match parts:
        case [str(text), SpecialChars.WILDCARD_MULTI]:
            return column.str.starts_with(text)
        case [SpecialChars.WILDCARD_MULTI, str(text)]:
            return column.str.ends_with(text)
        case [SpecialChars.WILDCARD_MULTI, str(text), SpecialChars.WILDCARD_MULTI]:
            return column.str.contains(text, literal=True)
    body = "".join(re.escape(part) if isinstance(part, str) else _WILD[part] for part in parts)
    return column.str.contains(f"^{body}$")
