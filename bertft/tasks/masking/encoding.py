"""Texts → features of at most ``max_length`` tokens: a long text is cut, between words, into more.

input_ids   [specials | tokens | specials]
word        number of each token's word in its text; −1 on the special ones
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bertft.data.bare import bare
from bertft.tasks.shared.specials import room_between

__all__ = ["encode_plain"]

_SLICE = 1024  # texts tokenised at once


def encode_plain(tokenizer: Any, texts: Sequence[str], max_length: int) -> dict[str, Any]:
    """Every token of every text in one feature. UsageError without room for a token."""
    before, after, room = room_between(tokenizer, max_length, "text")
    columns: dict[str, list[Any]] = {"input_ids": [], "word": [], "row": []}
    for start in range(0, len(texts), _SLICE):
        part = list(texts[start : start + _SLICE])
        for row, (ids, words) in enumerate(_tokens(tokenizer, part), start):
            for first, stop in _cuts(words, room):
                whole = [*before, *ids[first:stop], *after]
                number = [*[-1] * len(before), *words[first:stop], *[-1] * len(after)]
                columns["input_ids"].append(np.asarray(whole, np.int32))
                columns["word"].append(np.asarray(number, np.int32))
                columns["row"].append(row)
    if "token_type_ids" in tokenizer.model_input_names:
        columns["token_type_ids"] = [np.zeros(len(ids), np.int8) for ids in columns["input_ids"]]
    return columns


def _tokens(tokenizer: Any, texts: list[str]) -> Iterator[tuple[list[int], list[int]]]:
    """Tokens of each text, and the word of each; of a tokenizer that tells none, its own number."""
    with bare(tokenizer):
        found = tokenizer(texts, add_special_tokens=False, verbose=False)
    for number, ids in enumerate(found["input_ids"]):
        words = found.word_ids(number) if getattr(tokenizer, "is_fast", False) else range(len(ids))
        yield ids, list(words)


def _cuts(words: Sequence[int], room: int) -> Iterator[tuple[int, int]]:
    """Pieces of at most ``room`` tokens; a word stays whole unless it is longer than that."""
    start = 0
    while start < len(words):
        stop = min(start + room, len(words))
        cut = stop
        while cut > start and cut < len(words) and words[cut] == words[cut - 1]:
            cut -= 1
        stop = cut if cut > start else stop
        yield start, stop
        start = stop
