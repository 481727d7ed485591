"""What a writer writes: sentences with `{{fact.id}}` placeholders, and nothing that could be a value."""

from __future__ import annotations

import re
from typing import Final, Literal, Protocol

import msgspec

from pipelines.summaries.document import Facts

PLACEHOLDER: Final = re.compile(r"\{\{([a-z0-9_.]+)\}\}")
"""`{{id}}`: the id of a value, or of an entity (`entity.…`)."""

SectionKey = Literal["decisions", "activity", "actors", "coverage"]
SECTION_TITLES: Final[dict[SectionKey, str]] = {
    "decisions": "What to decide",
    "activity": "What happened",
    "actors": "Who was active",
    "coverage": "How much of it we know",
}
"""Sections in their order; titles are ours, never a writer's."""


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One section's sentences."""

    key: SectionKey
    sentences: list[str]


class Draft(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole summary before its values are put in."""

    writer: Literal["template", "model"]
    headline: str
    sections: list[Section]


class Making(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a draft came about: digests and counts, never a word of a prompt or an answer.

    `verdict` is `accepted` for a model's draft; for the template's it says why no model's was taken: `no_model`,
    `switched_off`, `breaker_open`, `refused` (by the guard, for `reasons`), or what was wrong with the call. Digests
    are SHA-256 in hex of the last prompt and answer; tokens are over all `attempts`.
    """

    verdict: str
    model_id: str | None = None
    prompt_digest: str | None = None
    response_digest: str | None = None
    reasons: list[str] = []
    attempts: int = 0
    tokens_in: int = 0
    tokens_out: int = 0


class Written(msgspec.Struct, frozen=True):
    """A draft that has passed the guard, and how it came about."""

    draft: Draft
    making: Making


class Writer(Protocol):
    """Words facts. What comes back has passed `pipelines.summaries.guard`."""

    def word(self, facts: Facts) -> Written:
        """Return a draft about these facts.

        Raises:
            pipelines.summaries.guard.DraftRefusedError: the template itself broke a rule: a mistake of ours.
        """
        ...


def sentences(draft: Draft) -> list[str]:
    """Return the headline and every sentence, in order."""
    return [draft.headline, *(sentence for section in draft.sections for sentence in section.sentences)]
