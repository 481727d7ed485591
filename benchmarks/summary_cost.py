"""What the summaries of a lake would cost if a model worded them: tokens a prompt and an answer, dollars a month.

    benchmarks/summary_cost.py --tokenizer tokenizer.json --lake file:///srv/kaimon/lake [--tenant ID]...
                               [--dollars-in 3 --dollars-out 15]

Counts the prompt that would be sent for the newest facts of each period in the lake, and the template's sentences as
an answer's. The tokenizer is a file in the form of Hugging Face's `tokenizers`, such as the one that Anthropic's
Python library brought up to version 0.38; the library itself (`pip install tokenizers`) is in none of kaimon's
requirements, for it brings much with it; the model in use may count differently, by up to about a third more.
Prints a line a period, then for days and for weeks the least, the median and the most, and what a thousand tenants
with a summary a day and one a week take in a month, each as the median and as the most.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

sys.path[0] = str(Path(__file__).parents[1])

from lake.reads import scan
from lake.settings import LakeSettings
from pipelines.summaries.document import Facts, parse
from pipelines.summaries.draft import Draft
from pipelines.summaries.prompt import SYSTEM, WORDED, make_prompt, tool_config
from pipelines.summaries.template import TemplateWriter

A_MONTH: Final = {"day": 30.4, "week": 4.35}
TENANTS: Final = 1_000


@dataclass(frozen=True)
class Size:
    """Tokens of one period's prompt and of the answer to it."""

    tenant: str
    kind: str
    start: str
    facts: int
    tokens_in: int
    tokens_out: int


def answer_of(draft: Draft) -> str:
    """Return a draft as a model would hand it in: headline and the sections that it may word."""
    sections = [{"key": one.key, "sentences": one.sentences} for one in draft.sections if one.key in WORDED]
    return msgspec.json.encode({"headline": draft.headline, "sections": sections}).decode()


def sizes(tenant: str, count: Callable[[str], int], settings: LakeSettings) -> list[Size]:
    """Return the size of each period that has facts, of the newest of them."""
    fixed = count(SYSTEM) + count(json.dumps(tool_config(), separators=(",", ":")))
    newest = scan(tenant, "facts", settings=settings).sort("made_at").collect()
    newest = newest.group_by("period", "period_start", maintain_order=True).last()
    found = []
    for row in newest.sort("period", "period_start").iter_rows(named=True):
        try:
            facts: Facts = parse(row["document"])
        except msgspec.ValidationError:
            continue  # of another version: its prompt would be another
        told = count(make_prompt(facts).text)
        out = count(answer_of(TemplateWriter().write(facts)))
        found.append(Size(tenant, facts.period, facts.period_start, told, fixed + told, out))
    return found


def counter(file: Path) -> Callable[[str], int]:
    """Return what counts a text's tokens by a tokenizer's file."""
    try:
        from tokenizers import Tokenizer  # type: ignore[import-untyped, import-not-found, unused-ignore] # none of ours
    except ImportError:
        sys.exit("this needs the library `tokenizers`: .venv/bin/uv pip install tokenizers")
    tokenizer: Any = Tokenizer.from_file(str(file))
    return lambda text: len(tokenizer.encode(text).ids)


def main() -> None:
    """Print the sizes of a lake's summaries and what they cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--lake", help="URL of the lake; by default the one of the settings")
    parser.add_argument("--tenant", action="append", required=True)
    parser.add_argument("--dollars-in", type=float, default=3.0, help="for a million tokens")
    parser.add_argument("--dollars-out", type=float, default=15.0)
    chosen = parser.parse_args()
    settings = LakeSettings(lake_url=chosen.lake) if chosen.lake else LakeSettings()
    count = counter(chosen.tokenizer)
    found = [size for tenant in chosen.tenant for size in sizes(tenant, count, settings)]
    if not found:
        sys.exit("there are no facts of this version in the lake")
    for size in found:
        name = f"{size.tenant} {size.kind} {size.start}"
        print(f"{name:40} facts {size.facts:6,}  in {size.tokens_in:6,}  out {size.tokens_out:5,}")
    month = {"median": [0.0, 0.0], "most": [0.0, 0.0]}
    for kind, times in A_MONTH.items():
        for place, column in enumerate(("tokens_in", "tokens_out")):
            every = [getattr(size, column) for size in found if size.kind == kind]
            if not every:
                continue
            said = {"least": min(every), "median": statistics.median(every), "most": max(every)}
            print(kind, column, ", ".join(f"{name} {tokens:,.0f}" for name, tokens in said.items()), f"of {len(every)}")
            for name, total in month.items():
                total[place] += TENANTS * times * said[name] / 1e6
    for name, (inward, outward) in month.items():
        dollars = inward * chosen.dollars_in + outward * chosen.dollars_out
        print(f"{name}: {inward:.1f} million in, {outward:.1f} million out, ${dollars:,.0f} a month")


if __name__ == "__main__":
    main()
