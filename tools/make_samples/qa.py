"""Questions on short English texts: three to a text, of which one has no answer there.

columns   id, question, context, answer, answer_start      answer '' and −1: there is none
rows      1,200 train, 300 validation, 300 test

    context     three deeds of three people, and background that tells nothing
    question    who did it, to what, where or when, of one of these deeds
    no answer   the part asked for is left out of the sentence, or the deed was another's

Nothing but the question tells which of three people, things or places is meant, and a question
without an answer names what does stand in the text. Validation and test have other deeds and
questions, people, places and times.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from tools.make_samples.grammar import Choices, surface
from tools.make_samples.texts.deeds import DEEDS, PARTS, Deed, Deeds

__all__ = ["ROWS", "generate"]

ROWS = {"train": 1200, "validation": 300, "test": 300}

_TOLD = 3  # deeds in a text
_SYMBOL = re.compile(r"{(\w+)}")


@dataclass(frozen=True)
class _Fact:
    """``parts``: what stands for who, what, where and when; ``told``: those that the text has."""

    deed: Deed
    parts: dict[str, str]
    sentence: str
    told: frozenset[str]


def generate(split: str) -> dict[str, list[Any]]:
    """Rows of ``split``, none twice, those of a text one after the other."""
    words, choices = DEEDS[split], Choices("qa", split)
    rows: list[tuple[Any, ...]] = []
    while len(rows) < ROWS[split]:
        facts = _facts(words, choices)
        context, places = _context(facts, words, choices)
        first, second = choices.shuffled(range(_TOLD))[:2]
        asked = [
            _answerable(facts[place], context, places[place], choices) for place in (first, second)
        ]
        asked.append((_unanswerable(facts, choices), "", -1))
        for question, answer, start in choices.shuffled(asked):
            rows.append((f"{split}-{len(rows) + 1}", question, context, answer, start))
    names = ("id", "question", "context", "answer", "answer_start")
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))


def _facts(words: Deeds, choices: Choices) -> list[_Fact]:
    """``_TOLD`` of them; no two share a person, a thing, a place or a time."""
    people, places = choices.shuffled(words.people), choices.shuffled(words.places)
    times = choices.shuffled(words.times)
    facts: list[_Fact] = []
    used: set[str] = set()
    for number in range(_TOLD):
        deed = choices.one(words.deeds)
        thing = choices.one([each for each in deed.things if each not in used] or deed.things)
        used.add(thing)
        values = (people[number], thing, places[number], times[number])
        parts = dict(zip(PARTS, values, strict=True))
        tell = choices.one(deed.tells)
        told = frozenset(_SYMBOL.findall(tell))
        facts.append(_Fact(deed, parts, surface(f"{tell.format(**parts)}."), told))
    return facts


def _context(facts: list[_Fact], words: Deeds, choices: Choices) -> tuple[str, list[int]]:
    """The text, and where each fact's sentence starts in it."""
    sentences = [fact.sentence for fact in facts]
    at = choices.below(_TOLD + 1)
    sentences.insert(at, surface(f"{choices.one(words.background)}."))
    starts = [sum(len(each) + 1 for each in sentences[:place]) for place in range(len(sentences))]
    del starts[at]
    return " ".join(sentences), starts


def _answerable(fact: _Fact, context: str, at: int, choices: Choices) -> tuple[str, str, int]:
    """(question, answer, its offset)."""
    part = choices.one([each for each in PARTS if each in fact.told])
    question = _question(fact.deed, part, fact.parts, fact.told, choices)
    value = fact.parts[part]
    start = context.lower().index(value.lower(), at)  # a sentence's first word has its capital
    return question, context[start : start + len(value)], start


def _unanswerable(facts: list[_Fact], choices: Choices) -> str:
    """For a part that was left out, or about somebody who did another deed."""
    fact, other = choices.shuffled(facts)[:2]
    left_out = [part for part in PARTS if part not in fact.told]
    if left_out and choices.below(100) < 50:
        return _question(fact.deed, choices.one(left_out), fact.parts, fact.told, choices)
    parts = fact.parts | {"who": other.parts["who"]}
    told = fact.told | {"who"}
    asks = {
        part: [each for each in questions if "{who}" in each and "{what}" in each]
        for part, questions in fact.deed.asks.items()
    }
    part = choices.one([each for each in PARTS if asks[each]])
    return _filled(choices.one([each for each in asks[part] if _fits(each, told)]), parts)


def _question(
    deed: Deed, part: str, parts: dict[str, str], told: frozenset[str], choices: Choices
) -> str:
    return _filled(choices.one([each for each in deed.asks[part] if _fits(each, told)]), parts)


def _fits(question: str, told: frozenset[str]) -> bool:
    """Whether a question names only what the text has."""
    return set(_SYMBOL.findall(question)) <= told


def _filled(question: str, parts: dict[str, str]) -> str:
    return surface(question.format(**parts))
