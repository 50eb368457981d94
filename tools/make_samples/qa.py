"""Questions on short English texts: three to a text, of which one has no answer there.

columns   id, question, context, answer, answer_start      answer '' and −1: there is none
rows      1,200 train, 300 validation, 300 test

    context     three deeds of three people, and background without information
    question    who did it, to what, where or when, of one of these deeds
    no answer   the sentence does not state that slot, or the deed was another's

Only the question determines which of three people, things or places is meant, and a question
without an answer names what is in the text. Validation and test have other deeds and
questions, people, places and times.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from tools.make_samples.grammar import Choices, surface
from tools.make_samples.texts.deeds import DEEDS, SLOTS, Deed, Deeds

__all__ = ["ROWS", "generate"]

ROWS = {"train": 1200, "validation": 300, "test": 300}

_FACTS_PER_TEXT = 3
_SYMBOL = re.compile(r"{(\w+)}")


@dataclass(frozen=True)
class _Fact:
    """``slot_values``: the values of who, what, where and when; ``stated``: slots in the text."""

    deed: Deed
    slot_values: dict[str, str]
    sentence: str
    stated: frozenset[str]


def generate(split: str) -> dict[str, list[Any]]:
    """Rows of ``split``, none twice, those of a text one after the other."""
    words, choices = DEEDS[split], Choices("qa", split)
    rows: list[tuple[Any, ...]] = []
    while len(rows) < ROWS[split]:
        facts = _facts(words, choices)
        context, places = _context(facts, words, choices)
        first, second = choices.shuffled(range(_FACTS_PER_TEXT))[:2]
        questions = [
            _answerable(facts[place], context, places[place], choices) for place in (first, second)
        ]
        questions.append((_unanswerable(facts, choices), "", -1))
        for question, answer, start in choices.shuffled(questions):
            rows.append((f"{split}-{len(rows) + 1}", question, context, answer, start))
    names = ("id", "question", "context", "answer", "answer_start")
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))


def _facts(words: Deeds, choices: Choices) -> list[_Fact]:
    """``_FACTS_PER_TEXT`` facts; no two share a person, a thing, a place or a time."""
    people, places = choices.shuffled(words.people), choices.shuffled(words.places)
    times = choices.shuffled(words.times)
    facts: list[_Fact] = []
    used: set[str] = set()
    for number in range(_FACTS_PER_TEXT):
        deed = choices.one(words.deeds)
        thing = choices.one(
            [candidate for candidate in deed.things if candidate not in used] or deed.things
        )
        used.add(thing)
        values = (people[number], thing, places[number], times[number])
        slot_values = dict(zip(SLOTS, values, strict=True))
        statement = choices.one(deed.statements)
        stated = frozenset(_SYMBOL.findall(statement))
        facts.append(
            _Fact(deed, slot_values, surface(f"{statement.format(**slot_values)}."), stated)
        )
    return facts


def _context(facts: list[_Fact], words: Deeds, choices: Choices) -> tuple[str, list[int]]:
    """The text, and where each fact's sentence starts in it."""
    sentences = [fact.sentence for fact in facts]
    at = choices.below(_FACTS_PER_TEXT + 1)
    sentences.insert(at, surface(f"{choices.one(words.background)}."))
    starts = [
        sum(len(sentence) + 1 for sentence in sentences[:place]) for place in range(len(sentences))
    ]
    del starts[at]
    return " ".join(sentences), starts


def _answerable(fact: _Fact, context: str, at: int, choices: Choices) -> tuple[str, str, int]:
    """(question, answer, its offset)."""
    slot = choices.one([slot for slot in SLOTS if slot in fact.stated])
    question = _question(fact.deed, slot, fact.slot_values, fact.stated, choices)
    value = fact.slot_values[slot]
    start = context.lower().index(value.lower(), at)  # a sentence's first word has its capital
    return question, context[start : start + len(value)], start


def _unanswerable(facts: list[_Fact], choices: Choices) -> str:
    """For a slot that the text does not state, or about somebody who did another deed."""
    fact, other = choices.shuffled(facts)[:2]
    left_out = [slot for slot in SLOTS if slot not in fact.stated]
    if left_out and choices.below(100) < 50:
        return _question(fact.deed, choices.one(left_out), fact.slot_values, fact.stated, choices)
    slot_values = fact.slot_values | {"who": other.slot_values["who"]}
    stated = fact.stated | {"who"}
    questions_by_slot = {
        slot: [question for question in questions if "{who}" in question and "{what}" in question]
        for slot, questions in fact.deed.questions.items()
    }
    slot = choices.one([slot for slot in SLOTS if questions_by_slot[slot]])
    fitting = [question for question in questions_by_slot[slot] if _fits(question, stated)]
    return _filled(choices.one(fitting), slot_values)


def _question(
    deed: Deed, slot: str, slot_values: dict[str, str], stated: frozenset[str], choices: Choices
) -> str:
    fitting = [question for question in deed.questions[slot] if _fits(question, stated)]
    return _filled(choices.one(fitting), slot_values)


def _fits(question: str, stated: frozenset[str]) -> bool:
    """Whether a question names only what the text has."""
    return set(_SYMBOL.findall(question)) <= stated


def _filled(question: str, slot_values: dict[str, str]) -> str:
    return surface(question.format(**slot_values))
