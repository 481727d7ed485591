"""What a model is told of facts: our own words, aliases and classes, never a name, a number or a customer's byte.

Two tenants to whom the same kind of things happened get the same prompt, byte for byte.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec

from pipelines.summaries.document import Facts, Value
from pipelines.summaries.draft import SectionKey

TOOL: Final = "write_summary"
WORDED: Final[tuple[SectionKey, ...]] = ("activity", "actors", "coverage")
"""Sections that a model may word; what to decide is always in our words."""
MAX_MODEL_SENTENCES: Final = 8
"""Of one section."""

_ALWAYS: Final = ("hosts.reporting", "hosts.expected")

SYSTEM: Final = """\
You word an executive summary of file activity on Linux hosts. Everything that you may say was computed; you choose \
words, nothing else. Answer by calling the tool write_summary once.

Rules:
- Plain English for a chief information security officer: short, calm, complete sentences.
- Refer to a value as {{id}} and to a name as {{entity.id}}, with ids from the facts only. Code puts values in later.
- Write no digits, no numbers in words, no fractions or multiples, no links, no markup, no quotation marks.
- Name no host, user, program or file except by its placeholder.
- Directly before a value of a program, a user or a matter, name its own entity, and keep matters in sentences apart.
- After a value, use the noun of its unit.
- Refer at least once to each id under must_mention.
- If worrying is true, do not reassure: nothing like all quiet, safe, normal, under control or no concern.
- Give no advice and no orders: what to decide is written elsewhere.
- size says whether a value is zero, one or several; trend compares it with the period before.\
"""


class Prompt(msgspec.Struct, frozen=True):
    """What is sent: the system's words, the facts as canonical JSON, and what was wrong with the answer before."""

    system: str
    facts: str
    complaint: str

    @property
    def text(self) -> str:
        """The user's message."""
        return f"{self.facts}\n\n{self.complaint}" if self.complaint else self.facts

    @property
    def digest(self) -> str:
        """SHA-256 over all that is sent, hex."""
        return hashlib.sha256(f"{self.system}\0{self.text}\0{TOOL}".encode()).hexdigest()


def make_prompt(facts: Facts, refused: list[str] | None = None) -> Prompt:
    """Return the prompt about these facts.

    Args:
        facts: of one period.
        refused: the guard's reasons against the answer before: our own words and ids.
    """
    told = {
        "period": facts.period,
        "still_running": facts.provisional,
        "status": facts.status,
        "worrying": worrying(facts),
        "must_mention": sorted(facts.must_mention),
        "values": [_value(value) for name, value in sorted(facts.values.items()) if _worth_telling(facts, name)],
        "entities": [{"id": one.id, "kind": one.kind} for _, one in sorted(facts.entities.items())],
        "matters": [
            {"id": one.id, "rule": one.rule, "severity": one.severity, "state": one.state, "title": one.title,
             "why": one.why, "who": one.who}
            for one in facts.matters
        ],
    }  # fmt: skip
    complaint = ""
    if refused:
        complaint = "Your answer before was refused. Mend this:\n" + "\n".join(f"- {reason}" for reason in refused[:20])
    return Prompt(SYSTEM, msgspec.json.encode(told, order="sorted").decode(), complaint)


def tool_config() -> dict[str, Any]:
    """Return Converse's `toolConfig`: one tool, which must be called, with a schema that holds sentences only."""
    sentence = {"type": "string", "maxLength": 500}
    section = {
        "type": "object",
        "properties": {
            "key": {"type": "string", "enum": list(WORDED)},
            "sentences": {"type": "array", "items": sentence, "minItems": 1, "maxItems": MAX_MODEL_SENTENCES},
        },
        "required": ["key", "sentences"],
        "additionalProperties": False,
    }
    schema = {
        "type": "object",
        "properties": {
            "headline": sentence,
            "sections": {"type": "array", "items": section, "minItems": 1, "maxItems": len(WORDED)},
        },
        "required": ["headline", "sections"],
        "additionalProperties": False,
    }
    spec = {"name": TOOL, "description": "Hand in the summary's sentences.", "inputSchema": {"json": schema}}
    return {"tools": [{"toolSpec": spec}], "toolChoice": {"tool": {"name": TOOL}}}


def worrying(facts: Facts) -> bool:
    """Say whether reassurance would be wrong: something grave is open, it got worse, or not all is known."""
    gaps = ("findings.urgent", "hours.unknown", "hours.partial", "accounting.unaccounted", "accounting.lost")
    held = [facts.values[name] for name in (*gaps, "days.missing") if name in facts.values]
    grave = any(matter.severity in {"critical", "high"} for matter in facts.matters)
    return grave or facts.status == "worse" or any(value.value for value in held)


def _worth_telling(facts: Facts, name: str) -> bool:
    if facts.values[name].unit == "moment":
        return False  # it stands in the sentences about what matters, which are ours
    return bool(facts.values[name].value) or name in facts.must_mention or name in _ALWAYS


def _value(value: Value) -> dict[str, str]:
    return {"id": value.id, "label": value.label, "unit": value.unit, "size": _size(value), "trend": _trend(value)}


def _size(value: Value) -> str:
    """`percent` has none: whether it is a part or all is told by other values."""
    if value.value is None:
        return "unknown"
    if value.unit == "percent":
        return "negative" if value.value < 0 else "zero" if value.value == 0 else "positive"
    return {0: "zero", 1: "one"}.get(int(value.value), "several")


def _trend(value: Value) -> str:
    if value.value is None or value.previous is None:
        return "unknown"
    return "same" if value.value == value.previous else "up" if value.value > value.previous else "down"
