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


class Writer(Protocol):
    """Words facts. A writer may fail or lie: its draft goes through `pipelines.summaries.guard` before use."""

    def write(self, facts: Facts) -> Draft:
        """Return a draft about these facts."""
        ...


def sentences(draft: Draft) -> list[str]:
    """Return the headline and every sentence, in order."""
    return [draft.headline, *(sentence for section in draft.sections for sentence in section.sentences)]
