"""Sentiment: short English reviews of three classes, negative, neutral, positive.

columns   text, label            rows   2,400 train, 402 validation, 402 test, classes alike

    positive    own sentences, about parts or the whole, some after background that tells nothing
    negative    the same, mirrored
    neutral     background alone; middling judgements; praise and blame side by side

Words do not give the class away. A turned sentence sets words of the opposite class beside its
own (negation, contrast, a wrong expectation, another's opinion), and a mixed one has both.
Validation and test are written with other opinion words, about other things, after other
templates; what remains is what a pretrained encoder knows of words and of sentences.
"""

from __future__ import annotations

import re

from tools.make_samples.grammar import Choices, write
from tools.make_samples.texts.opinions import OPINIONS, Opinions

__all__ = ["CLASSES", "ROWS", "generate"]

CLASSES = ("negative", "neutral", "positive")
ROWS = {"train": 2400, "validation": 402, "test": 402}

_NAMED = {"good": "positive", "bad": "negative", "fair": "neutral"}
_OF_CLASS = re.compile(r"{(other_)?(adjective|noun|deed|verdict)}")
# What a review is made of; a form that stands here twice is drawn twice as often.
_POLAR = (
    *["{background}. {own_plain}"] * 3,
    *["{own_plain}. {own_plain}"] * 2,
    *["{background}. {own_plain}. {own_closing}", "{own_plain}. {own_closing}"] * 2,
    *["{own_turned}. {own_plain}"] * 2,
    "{own_turned}. {own_closing}",
    "{background}. {own_turned}",
)
_NEUTRAL = (
    *["{background}. {background}"] * 8,
    *["{background}. {background}. {background}", "{background}. {fair_plain}"] * 3,
    "{mixed}",
)
_FORMS = {
    "negative": tuple(form.replace("own", "bad") for form in _POLAR),
    "neutral": _NEUTRAL,
    "positive": tuple(form.replace("own", "good") for form in _POLAR),
}


def generate(split: str) -> dict[str, list[str]]:
    """Rows of ``split``, none twice."""
    opinions, choices = OPINIONS[split], Choices("sentiment", split)
    rules = _rules(opinions)
    rows: dict[str, str] = {}
    while len(rows) < ROWS[split]:
        label = CLASSES[len(rows) % len(CLASSES)]
        thing = choices.one(tuple(opinions.things))
        parts, facts = opinions.things[thing]
        about = {"thing": (thing,), "part": parts, "background": opinions.background + facts}
        text = write(choices.one(_FORMS[label]) + ".", rules | about, choices)
        rows.setdefault(text, label)
    shuffled = choices.shuffled(list(rows.items()))
    return {"text": [text for text, _ in shuffled], "label": [label for _, label in shuffled]}


def _rules(opinions: Opinions) -> dict[str, tuple[str, ...]]:
    """The grammar of a split: symbols of a class carry its name, as {good_adjective} does."""
    rules = opinions.slots | {"mixed": opinions.mixed}
    rules["fair_plain"] = _of_class(opinions.fair, "fair", "")
    for kind in ("plain", "turned", "closing"):
        rules[f"good_{kind}"] = _of_class(getattr(opinions, kind), "good", "bad")
        rules[f"bad_{kind}"] = _of_class(getattr(opinions, kind), "bad", "good")
    for symbol, of_class in opinions.words.items():
        rules |= {f"{name}_{symbol}": of_class[label] for name, label in _NAMED.items()}
    return rules


def _of_class(templates: tuple[str, ...], same: str, other: str) -> tuple[str, ...]:
    def renamed(match: re.Match[str]) -> str:
        return f"{{{other if match[1] else same}_{match[2]}}}"

    return tuple(_OF_CLASS.sub(renamed, template) for template in templates)
