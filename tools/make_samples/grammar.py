"""A small grammar that writes sentences, and the stream of choices it draws from.

    template   "the {part} was {adjective}"       {symbol}: one alternative of that symbol
    rules      symbol → alternatives, which may hold symbols themselves

No alternative comes twice in one text before all of its symbol have come. What is written gets
its surface: *a* becomes *an* before a vowel, sentences begin with a capital.

The same stream gives the same text on every platform and Python version: the only thing asked of
``random.Random`` is ``random()`` after an integer seed, which Python promises never to change.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

__all__ = ["Choices", "surface", "write"]

Item = TypeVar("Item")

_SYMBOL = re.compile(r"{(\w+)}")
_ARTICLE = re.compile(r"\b([Aa])(?= (?!on(?:e|ce)\b|us[eu]|uni[qtfv]|eu)[aeiou]| hour| honest)")
_BEGINNING = re.compile(r"(?:^|[.!?] )([a-z])")


class Choices:
    """A stream of choices, one for each sequence of ``names``, the same for all time."""

    def __init__(self, *names: str) -> None:
        digest = hashlib.sha256("/".join(names).encode()).digest()
        self._next = random.Random(int.from_bytes(digest[:8], "big")).random

    def below(self, limit: int) -> int:
        """A whole number from 0 to ``limit`` − 1."""
        return int(self._next() * limit)

    def one(self, items: Sequence[Item]) -> Item:
        """One of ``items``."""
        return items[self.below(len(items))]

    def shuffled(self, items: Sequence[Item]) -> list[Item]:
        """``items`` in another order (Fisher and Yates)."""
        order = list(items)
        for last in range(len(order) - 1, 0, -1):
            place = self.below(last + 1)
            order[last], order[place] = order[place], order[last]
        return order


def write(template: str, rules: Mapping[str, Sequence[str]], choices: Choices) -> str:
    """A text after ``template``, with its surface."""
    used: dict[str, set[str]] = {}

    def alternative(match: re.Match[str]) -> str:
        symbol = match[1]
        seen = used.setdefault(symbol, set())
        left = [candidate for candidate in rules[symbol] if candidate not in seen]
        if not left:
            seen.clear()
            left = list(rules[symbol])
        chosen = choices.one(left)
        seen.add(chosen)
        return _SYMBOL.sub(alternative, chosen)

    return surface(_SYMBOL.sub(alternative, template))


def surface(text: str) -> str:
    """``text`` with its articles before vowels and its capitals in place."""
    text = _ARTICLE.sub(r"\1n", text)
    return _BEGINNING.sub(lambda match: match[0][:-1] + match[1].upper(), text)
