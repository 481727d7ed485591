"""Refuses a draft that could say anything which code did not compute."""

from __future__ import annotations

import unicodedata
from typing import Final

from pipelines.summaries.claims import claims
from pipelines.summaries.document import Facts
from pipelines.summaries.draft import PLACEHOLDER, SECTION_TITLES, Draft, sentences

MAX_SENTENCE: Final = 500
MAX_SENTENCES: Final = 40
_LINKS: Final = ("://", "www.", "mailto:")
_MARKUP: Final = frozenset("<>`[]{}|\\*_#&=~^$")


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
            what `pipelines.summaries.claims` refuses.
    """
    reasons = [*_shape(draft), *_references(draft, facts)]
    if draft.writer == "model":
        reasons += claims(draft, facts)
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
