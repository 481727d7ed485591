"""Refuses a draft that could say anything which code did not compute."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from pipelines.summaries.document import Facts
from pipelines.summaries.draft import PLACEHOLDER, SECTION_TITLES, Draft, sentences

MAX_SENTENCE: Final = 500
MAX_SENTENCES: Final = 40
_LINKS: Final = ("://", "www.", "mailto:")
_MARKUP: Final = frozenset("<>`[]{}|\\*_#&=~^$")


_NUMBERS: Final = re.compile(
    r"\b(zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen"
    r"|eighteen|nineteen|(twen|thir|for|fif|six|seven|eigh|nine)ty|hundreds?|thousands?|millions?|billions?|dozens?"
    r"|twice|thrice|half|quarter|double|tripled?|percent)\b",
    re.IGNORECASE,
)
_SOOTHING: Final = re.compile(
    r"\b(all (is )?(quiet|well|clear|calm|good|fine)|nothing (happened|suspicious|unusual|to (see|worry|report))"
    r"|no (threats?|incidents?|concerns?|risks?|problems?|issues?|findings?|cause|reason|need|signs?|evidence)"
    r"|safe|secure|reassur\w*|harmless|benign|under control"
    r"|business as usual|as expected|everything is|not? worr\w*)\b",
    re.IGNORECASE,
)


class DraftRefusedError(Exception):
    """A draft broke a rule; `reasons` are short words and ids, never the draft's own text."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


def guard(draft: Draft, facts: Facts) -> None:
    """Check a draft against its facts.

    Raises:
        DraftRefusedError: sections out of order or empty, too long, an unknown reference, something that must be
            mentioned is not, or a digit, a link, markup or a control character outside a placeholder; of a model also
            a number in words, and reassurance while a critical or high finding is open, the status is worse, or
            something is not known.
    """
    reasons = [*_shape(draft), *_references(draft, facts)]
    if draft.writer == "model":
        reasons += _claims(draft, facts)
    for number, sentence in enumerate(sentences(draft)):
        words = PLACEHOLDER.sub("", sentence)
        reasons += [f"sentence {number}: {reason}" for reason in _words(sentence, words)]
    if reasons:
        raise DraftRefusedError(reasons)


def check_words(text: str) -> None:
    """Check words of ours that a writer takes over as they are.

    Raises:
        DraftRefusedError: a digit, a link, markup or a control character.
    """
    if reasons := _words(text, text):
        raise DraftRefusedError(reasons)


def _shape(draft: Draft) -> list[str]:
    reasons: list[str] = []
    order = [list(SECTION_TITLES).index(section.key) for section in draft.sections]
    if order != sorted(set(order)):
        reasons.append("sections out of order or repeated")
    if not draft.sections or any(not section.sentences for section in draft.sections):
        reasons.append("a section is empty")
    if len(sentences(draft)) > MAX_SENTENCES:
        reasons.append("too many sentences")
    return reasons


def _references(draft: Draft, facts: Facts) -> list[str]:
    used = {reference for sentence in sentences(draft) for reference in PLACEHOLDER.findall(sentence)}
    unknown = used - facts.values.keys() - facts.entities.keys()
    silent = [name for name in facts.must_mention if name not in used]
    return [
        *(f"{len(unknown)} unknown references" for _ in range(bool(unknown))),
        *(f"does not mention {name}" for name in silent),
    ]


def _claims(draft: Draft, facts: Facts) -> list[str]:
    """What a model may not say: numbers in words ever, and that all is well while it is not known to be."""
    grave = bool(facts.values["findings.urgent"].value) or facts.status == "worse"
    gaps = any(facts.values[name].value for name in ("hours.unknown", "hours.partial", "accounting.unaccounted"))
    reasons = []
    for number, sentence in enumerate(sentences(draft)):
        words = PLACEHOLDER.sub("", sentence)
        if _NUMBERS.search(words):
            reasons.append(f"sentence {number}: a number in words")
        if (grave or gaps) and _SOOTHING.search(words):
            reasons.append(f"sentence {number}: reassurance while it is not known to be well")
    return reasons


def _words(sentence: str, words: str) -> list[str]:
    reasons: list[str] = []
    if not words.strip():
        reasons.append("no words")
    if len(sentence) > MAX_SENTENCE:
        reasons.append("too long")
    if any(character.isnumeric() for character in words):
        reasons.append("a number outside a placeholder")
    if any(link in words.lower() for link in _LINKS):
        reasons.append("a link")
    if _MARKUP & set(words):
        reasons.append("markup")
    if any(unicodedata.category(character)[0] == "C" for character in words):
        reasons.append("a control or invisible character")
    return reasons
