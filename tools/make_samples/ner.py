"""Entities: English sentences with names of persons, places, organisations and products.

columns   words, tags (bio)      rows   1,600 train, 300 validation, 300 test

    Anna Miller moved to Berlin .       B-person I-person O O B-place O

Some names of train are a person's in one sentence and a place in another (Lincoln), and so are the
names inside those of organisations (Bank of Berlin). Validation and test have other names and
other sentences: who remembers names finds nothing there.
"""

from __future__ import annotations

import re

from tools.make_samples.grammar import Choices
from tools.make_samples.texts.namings import NAMINGS, Namings

__all__ = ["ROWS", "TYPES", "generate"]

TYPES = ("organisation", "person", "place", "product")
ROWS = {"train": 1600, "validation": 300, "test": 300}

_SYMBOL = re.compile(r"{(\w+)}")


def generate(split: str) -> dict[str, list[list[str]]]:
    """Rows of ``split``, none twice."""
    namings, choices = NAMINGS[split], Choices("ner", split)
    rows: dict[str, tuple[list[str], list[str]]] = {}
    plain = [sentence for sentence in namings.sentences if "{" not in sentence]
    telling = [sentence for sentence in namings.sentences if "{" in sentence]
    for sentence in plain:
        rows[sentence] = sentence.split(), ["O"] * len(sentence.split())
    while len(rows) < ROWS[split]:
        words, tags = _sentence(choices.one(telling), namings, choices)
        rows.setdefault(" ".join(words), (words, tags))
    shuffled = choices.shuffled(list(rows.values()))
    return {"words": [words for words, _ in shuffled], "tags": [tags for _, tags in shuffled]}


def _sentence(template: str, namings: Namings, choices: Choices) -> tuple[list[str], list[str]]:
    words: list[str] = []
    tags: list[str] = []
    used: set[str] = set()
    for piece in template.split():
        symbol = _SYMBOL.fullmatch(piece)
        if symbol is None:
            words.append(piece)
            tags.append("O")
            continue
        name = _name(symbol[1], namings, choices)
        while name in used:  # nobody meets himself
            name = _name(symbol[1], namings, choices)
        used.add(name)
        parts = name.split()
        if parts[0] == "the":  # the article is no part of a name
            words.append("the")
            tags.append("O")
            parts = parts[1:]
        words += parts
        tags += [f"B-{symbol[1]}", *[f"I-{symbol[1]}"] * (len(parts) - 1)]
    words[0] = words[0][0].upper() + words[0][1:]
    return words, tags


def _name(kind: str, namings: Namings, choices: Choices) -> str:
    if kind == "person":
        first, last = choices.one(namings.first_names), choices.one(namings.surnames)
        return (f"{first} {last}", first, last, f"{first} {last}")[choices.below(4)]
    if kind == "place":
        return choices.one(namings.places)
    if kind == "product":
        return choices.one(namings.products)
    cities = [place for place in namings.places if place.split()[0] not in ("the", "Lake")]
    name = choices.one(namings.organisations)
    return name.format(surname=choices.one(namings.surnames), city=choices.one(cities))
