"""Words in a text, and their bounds in characters.

join_words(words)   words → natural text, and the bounds of each word in it
words_to_text(text) a list of words → their text; any other value unchanged
split_words(text)   text → bounds: split at white space, around Chinese characters and punctuation
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

__all__ = [
    "WordBounds",
    "join_words",
    "split_at_spaces",
    "split_characters",
    "split_words",
    "words_to_text",
]

WordBounds = list[tuple[int, int]]

# Scripts that are written without spaces: CJK with its punctuation, kana, full-width forms.
_CJK = "\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
_ASCII_SPACED = re.compile("[^ \t\r\n]+")
_SPACED = re.compile(r"\S+")
_PIECE = re.compile(rf"[{_CJK}]|[^\s{_CJK}]+")
_OPENING = re.compile(r"[^\w\s@#$€£]")
_CLOSING = re.compile(r"(?:['\u2019]s|[^\w\s])$", re.IGNORECASE)


def join_words(words: Sequence[str]) -> tuple[str, WordBounds]:
    """Join words with spaces, except between two words of a script without spaces."""
    pieces: list[str] = []
    bounds: WordBounds = []
    position = 0
    for number, word in enumerate(words):
        if number and not (
            _is_unspaced_script(words[number - 1][-1]) and _is_unspaced_script(word[0])
        ):
            pieces.append(" ")
            position += 1
        pieces.append(word)
        bounds.append((position, position + len(word)))
        position += len(word)
    return "".join(pieces), bounds


def words_to_text(value: Any) -> Any:
    """The joined words of a list of texts, without blank ones; any other value unchanged."""
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        return value
    return join_words([word for word in value if word and not word.isspace()])[0]


def split_at_spaces(text: str, ascii_only: bool = False) -> WordBounds:
    """Split at white space; ``ascii_only``: U+00A0, U+3000 and so on are part of words."""
    pattern = _ASCII_SPACED if ascii_only else _SPACED
    return [match.span() for match in pattern.finditer(text)]


def split_characters(text: str) -> WordBounds:
    """Every character except white space."""
    return [
        (position, position + 1)
        for position, character in enumerate(text)
        if not character.isspace()
    ]


def split_words(text: str) -> WordBounds:
    """Words as in NER corpora: "(Berlin," is three words, "U.S." one, "Ann's" two."""
    return [
        bounds
        for match in _PIECE.finditer(text)
        for bounds in _split_off_punctuation(text, *match.span())
    ]


def _split_off_punctuation(text: str, start: int, stop: int) -> WordBounds:
    prefixes: WordBounds = []
    suffixes: WordBounds = []
    while stop - start > 1 and _OPENING.match(text, start):
        prefixes.append((start, start + 1))
        start += 1
    while stop - start > 1 and (match := _CLOSING.search(text[start:stop])):
        suffix_start = start + match.start()
        is_initial = suffix_start - start == 1 and text[start].isupper()
        is_abbreviation = match[0] == "." and (is_initial or "." in text[start:suffix_start])
        if suffix_start == start or is_abbreviation:
            break
        suffixes.append((suffix_start, stop))
        stop = suffix_start
    return [*prefixes, (start, stop), *reversed(suffixes)]


def _is_unspaced_script(character: str) -> bool:
    return re.match(f"[{_CJK}]", character) is not None
