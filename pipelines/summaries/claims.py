"""What a model may not claim: numbers in words, names, comfort that is not due, a value with a wrong name or noun."""

from __future__ import annotations

import re
from typing import Final

from pipelines.summaries.document import Facts
from pipelines.summaries.draft import PLACEHOLDER, Draft, sentences
from pipelines.summaries.prompt import MAX_MODEL_SENTENCES, worrying

_NUMBERS: Final = re.compile(
    r"\b(zero|one|once|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen"
    r"|seventeen|eighteen|nineteen|(twen|thir|for|fif|six|seven|eigh|nine)t(y|ies)(-\w+)?|hundreds?|thousands?|millions?"
    r"|billions?|trillions?|dozens?|twice|thrice|hal(f|ves)|quarters?|thirds?|doubl(e|ed|ing)|tripl(e|ed|ing)"
    r"|quadrupl\w+|(two|three|four|five|ten|many)fold|percent(age)?|pairs?|couple|single|first|second|fourth|fifth|tenth)\b",
    re.IGNORECASE,
)
_SOOTHING: Final = re.compile(
    r"\b((all|everything|things?|hosts?|systems?) (is |are |was |were |looks? |remain(s|ed)? |stay(s|ed)? )?(all )?"
    r"(quiet|well|clear|calm|good|fine|normal|healthy|okay|ok|clean|in order|stable|safe)"
    r"|nothing (\w+ )?(happened|suspicious|unusual|wrong|alarming|notable|stands out|(to|that) (see|worry|report|act))"
    r"|no (\w+ )?(threats?|incidents?|concerns?|risks?|problems?|issues?|findings?|cause|reason|need|signs?|evidence"
    r"|attacks?|action|anomal(y|ies)|malicious|suspicious|danger|trouble|breach(es)?|compromise|gaps?|loss(es)?|alarm)"
    r"|quiet|calm|uneventful|peaceful|unremarkable|ordinary|routine|normal(ly)?|healthy|trouble-?free|fully protected"
    r"|(without|free of|free from) (\w+ )?(incident|trouble|concern|problems?|issues?|risk)|rest assured|sleep well"
    r"|safe(ly)?|secure(d|ly)?|reassur\w*|comfort\w*|harmless|benign|under control|false alarm|can be ignored|ignored?"
    r"|business as usual|as (expected|usual|planned|it should)|everything (is|was)|not? worr\w*|contained|resolved"
    r"|did not find|found nothing|accounted for|complete(ly)? (covered|known|visible)|full (coverage|visibility))\b",
    re.IGNORECASE,
)
_SHAPED_LIKE_A_NAME: Final = re.compile(r"[\"'\u2018\u201c\u201d\u00ab\u00bb]|[^\s]*[/@_:\\][^\s]*|\w\.\w")
_CALLED: Final = re.compile(
    r"\b(hosts?|servers?|machines?|users?|accounts?|programs?|process|files?) (named|called|known as)\b",
    re.IGNORECASE,
)
_MINE: Final = re.compile(r"^(process|user|matter)_\d+$")
_NOUNS: Final[dict[str, frozenset[str]]] = {
    "event": frozenset({"events"}),
    "host": frozenset({"hosts"}),
    "host-hour": frozenset({"host-hours"}),
    "hour": frozenset({"host-hours"}),
    "path": frozenset({"paths"}),
    "file": frozenset({"paths"}),
    "finding": frozenset({"findings"}),
    "line": frozenset({"lines"}),
    "day": frozenset({"days"}),
    "kind": frozenset({"kinds"}),
    "act": frozenset({"acts"}),
    "program": frozenset({"rows"}),
    "user": frozenset(),
    "attack": frozenset(),
    "incident": frozenset({"findings"}),
}
_AFTER: Final = 3
"""How many words after a value may hold its noun."""
_WORD: Final = re.compile(r"[A-Za-z]+(?:[-'\u2019][A-Za-z]+)*")
_PROPER: Final = frozenset({"I", "Linux", "UTC", "SSH", "Kaimon", "CISO", "PAM", "Monday", "Sunday"})
_ENGLISH: Final = frozenset(
    re.findall(
        r"\w+",
        """
    a about above across after again against all also an and any are as at be because been before being below
    between both but by can changed could did do does during each every few for from had has have here how in
    including into is it its less like many more most much no not of off on only open or other others out over
    own part reported same seen several since so some still such than that the their them then there these they
    this those through to touched under until up very was were what when where which while who with within would
    yet followed compared came
        """,
    )
)
_LEAST_ENGLISH: Final = 0.2


def claims(draft: Draft, facts: Facts) -> list[str]:
    """Return why a model's draft is refused, in our own words; empty if it is not."""
    reasons = []
    soothing_is_wrong = worrying(facts)
    if any(len(section.sentences) > MAX_MODEL_SENTENCES and section.key != "decisions" for section in draft.sections):
        reasons.append("a section is too long")
    for number, sentence in enumerate(_worded(draft)):
        words = PLACEHOLDER.sub(" ", sentence)
        found = [
            ("a number in words", _NUMBERS.search(words)),
            ("reassurance while it is not known to be well", soothing_is_wrong and _SOOTHING.search(words)),
            ("a name, or something like one", _names(words)),
            ("not English", not _english(words)),
            ("a value beside another's name", _mixed(sentence)),
            ("a value with a noun that is not its unit's", _misnamed(sentence, facts)),
        ]
        reasons += [f"sentence {number}: {reason}" for reason, hit in found if hit]
    return reasons


def _worded(draft: Draft) -> list[str]:
    """What the model said: what to decide is ours, whoever words the rest."""
    ours = [sentence for section in draft.sections if section.key == "decisions" for sentence in section.sentences]
    return [sentence for sentence in sentences(draft) if sentence not in ours]


def _names(words: str) -> bool:
    """Say whether words hold what only a name looks like: a model was told none, so it made that up."""
    if _SHAPED_LIKE_A_NAME.search(words) or _CALLED.search(words):
        return True
    inside = [match for match in _WORD.finditer(words) if not _begins(words, match.start())]
    return any(any(letter.isupper() for letter in match[0]) and match[0] not in _PROPER for match in inside)


def _begins(words: str, place: int) -> bool:
    before = words[:place].rstrip()
    return not before or before[-1] in ".!?;"


def _english(words: str) -> bool:
    said = [word.lower() for word in _WORD.findall(words)]
    if any(letter.isalpha() and not letter.isascii() for letter in words) or not said:
        return False
    return sum(word in _ENGLISH for word in said) >= max(1, _LEAST_ENGLISH * len(said))


def _mixed(sentence: str) -> bool:
    """Say whether a value of a ranking or a matter stands beside the name of another."""
    nearest: dict[str, str] = {}
    matters = set()
    for reference in PLACEHOLDER.findall(sentence):
        named = reference.startswith("entity.")
        owner = reference.removeprefix("entity.").split(".")[0]
        kind, _, rest = owner.partition("_")
        if kind == "matter":
            matters.add(rest.split("_")[0])
        elif named:
            nearest[kind] = owner
        elif _MINE.match(owner) and nearest.get(kind) != owner:
            return True
    return len(matters) > 1


def _misnamed(sentence: str, facts: Facts) -> bool:
    pieces = PLACEHOLDER.split(sentence)
    for reference, after in zip(pieces[1::2], pieces[2::2], strict=True):
        if reference not in facts.values:
            continue
        for word in _WORD.findall(after.split(",")[0])[:_AFTER]:
            noun = word.lower() if word.lower() in _NOUNS else word.lower().removesuffix("s")
            if noun in _NOUNS:
                if facts.values[reference].unit not in _NOUNS[noun]:
                    return True
                break
    return False
