"""Pairs: a short English text and a claim about it, supported by the text or unsupported.

columns   text, text_pair, label     rows   2,400 train, 300 validation, 300 test, classes alike

    text    a fact about somebody          Bella dreamed of a lorry.
    claim   the group that it is of        There was a vehicle in Bella's dream.

A text is claimed as often wrongly as rightly, half the time to be of another group of its topic,
half of another topic: what tells the class is that a lorry is a vehicle. Validation and test have
other groups and members, other sentences, other names.
"""

from __future__ import annotations

from tools.make_samples.grammar import Choices, surface
from tools.make_samples.texts.claims import CLAIMS, Claims

__all__ = ["CLASSES", "ROWS", "generate"]

CLASSES = ("supported", "unsupported")
ROWS = {"train": 2400, "validation": 300, "test": 300}


def generate(split: str) -> dict[str, list[str]]:
    """Rows of ``split``, none twice."""
    claims, choices = CLAIMS[split], Choices("pair", split)
    rows: dict[tuple[str, str], str] = {}
    while len(rows) < ROWS[split]:
        label = CLASSES[len(rows) % len(CLASSES)]
        rows.setdefault(_pair(claims, label, choices), label)
    shuffled = choices.shuffled(list(rows.items()))
    return {
        "text": [text for (text, _), _ in shuffled],
        "text_pair": [claim for (_, claim), _ in shuffled],
        "label": [label for _, label in shuffled],
    }


def _pair(claims: Claims, label: str, choices: Choices) -> tuple[str, str]:
    who = choices.one(claims.names)
    topic, another = choices.shuffled(claims.topics)[:2]
    group, wrong = choices.shuffled(list(topic.groups))[:2]
    fact_frame, claim_frame = choices.one(topic.frames)
    text = fact_frame.format(who=who, member=choices.one(topic.groups[group]))
    if label == "supported":
        claim = claim_frame.format(who=who, group=group)
    elif choices.below(100) < 50:
        claim = claim_frame.format(who=who, group=wrong)
    else:
        claim = choices.one(another.frames)[1].format(
            who=who, group=choices.one(list(another.groups))
        )
    return surface(f"{text}."), surface(f"{claim}.")
