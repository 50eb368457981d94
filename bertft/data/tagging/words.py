"""Words in a text: where each begins and ends, in characters.

joined(words)   words → the text that a reader would write, and the bounds of each word in it
split(text)     text → bounds: at white space, each Chinese character alone, punctuation apart
"""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["Bounds", "at_spaces", "characters", "joined", "split"]

Bounds = list[tuple[int, int]]

# Scripts that are written without spaces: CJK with its punctuation, kana, full-width forms.
_CJK = "\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
_ASCII_SPACED = re.compile("[^ \t\r\n]+")
_SPACED = re.compile(r"\S+")
_PIECE = re.compile(rf"[{_CJK}]|[^\s{_CJK}]+")
_OPENING = re.compile(r"[^\w\s@#$€£]")
_CLOSING = re.compile(r"(?:['\u2019]s|[^\w\s])$", re.IGNORECASE)


def joined(words: Sequence[str]) -> tuple[str, Bounds]:
    """Words with a space between them, but none between two of a script without spaces."""
    parts: list[str] = []
    bounds: Bounds = []
    at = 0
    for number, word in enumerate(words):
        if number and not (_unspaced(words[number - 1][-1]) and _unspaced(word[0])):
            parts.append(" ")
            at += 1
        parts.append(word)
        bounds.append((at, at + len(word)))
        at += len(word)
    return "".join(parts), bounds


def at_spaces(text: str, ascii_only: bool = False) -> Bounds:
    """What is between white space; ``ascii_only``: U+00A0, U+3000 and so on are part of words."""
    pattern = _ASCII_SPACED if ascii_only else _SPACED
    return [match.span() for match in pattern.finditer(text)]


def characters(text: str) -> Bounds:
    """Every character but white space."""
    return [(place, place + 1) for place, each in enumerate(text) if not each.isspace()]


def split(text: str) -> Bounds:
    """Words as corpora of entities have them: "(Berlin," is three, "U.S." one, "Ann's" two."""
    return [
        bounds
        for match in _PIECE.finditer(text)
        for bounds in _without_punctuation(text, *match.span())
    ]


def _without_punctuation(text: str, start: int, stop: int) -> Bounds:
    before: Bounds = []
    after: Bounds = []
    while stop - start > 1 and _OPENING.match(text, start):
        before.append((start, start + 1))
        start += 1
    while stop - start > 1 and (match := _CLOSING.search(text[start:stop])):
        place = start + match.start()
        initial = place - start == 1 and text[start].isupper()
        abbreviated = match[0] == "." and (initial or "." in text[start:place])
        if place == start or abbreviated:
            break
        after.append((place, stop))
        stop = place
    return [*before, (start, stop), *reversed(after)]


def _unspaced(character: str) -> bool:
    return re.match(f"[{_CJK}]", character) is not None
