"""Rows of words → features: one a window, and in it the first token of each word stands for it.

    input_ids   [specials | tokens of the window's words | specials]
    word        number of the word on its first token, −1 on every other and where another window
                answers the word
    labels      class of that word there, −100 elsewhere

A word keeps at most the tokens that fit beside the special ones, and one that a tokenizer makes
nothing of (a lone control character) becomes the unknown token: no word is lost.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bertft.data.bare import bare
from bertft.tasks.shared.specials import room_between
from bertft.tasks.tagging.windows import windows

__all__ = ["IGNORED", "encode_words"]

IGNORED = -100

_OVERLAP = 4  # a window shares at most this part of its room with the next one


def encode_words(
    tokenizer: Any,
    rows: Mapping[str, Sequence[Any]],
    labels: Sequence[Sequence[int]] | None,
    max_length: int,
) -> dict[str, Any]:
    """``rows`` have text, starts and stops; ``labels`` a class a word. UsageError without room."""
    before, after, room = room_between(tokenizer, max_length, "words")
    spaced = _needs_spaces(tokenizer)
    words = [list(_words(*row, spaced)) for row in zip(
        rows["text"], rows["starts"], rows["stops"], strict=True
    )]  # fmt: skip
    pieces = _pieces(tokenizer, words, room)
    columns: dict[str, list[Any]] = {"input_ids": [], "word": [], "row": []}
    if labels is not None:
        columns["labels"] = []
    for row, sentence in enumerate(words):
        tokens = [pieces[word] for word in sentence]
        sizes = [len(each) for each in tokens]
        for window in windows(sizes, room, room // _OVERLAP):
            inside = range(window.first, window.stop)
            ids = [*before, *(token for word in inside for token in tokens[word]), *after]
            place = np.full(len(ids), -1, np.int32)
            firsts = len(before) + np.cumsum([0, *(sizes[word] for word in inside)])[:-1]
            own = slice(window.own - window.first, window.own_stop - window.first)
            place[firsts[own]] = np.arange(window.own, window.own_stop)
            columns["input_ids"].append(np.asarray(ids, np.int32))
            columns["word"].append(place)
            columns["row"].append(row)
            if labels is not None:
                classes = np.full(len(ids), IGNORED, np.int32)
                classes[firsts[own]] = labels[row][window.own : window.own_stop]
                columns["labels"].append(classes)
    if "token_type_ids" in tokenizer.model_input_names:
        columns["token_type_ids"] = [np.zeros(len(ids), np.int8) for ids in columns["input_ids"]]
    return columns


def _words(text: str, starts: Sequence[int], stops: Sequence[int], spaced: bool) -> Iterator[str]:
    for start, stop in zip(starts, stops, strict=True):
        yield (
            text[start - 1 : stop]
            if spaced and text[start - 1 : start] == " "
            else (text[start:stop])
        )


def _pieces(tokenizer: Any, sentences: Sequence[Sequence[str]], room: int) -> dict[str, list[int]]:
    """Tokens of each different word."""
    different = list(dict.fromkeys(word for sentence in sentences for word in sentence))
    with bare(tokenizer):
        ids = tokenizer(different, add_special_tokens=False, verbose=False)["input_ids"]
    unknown = [next(each for each in _of_nothing(tokenizer) if each is not None)]
    return {word: tokens[:room] or unknown for word, tokens in zip(different, ids, strict=True)}


def _of_nothing(tokenizer: Any) -> Iterator[int | None]:
    """Tokens that can stand for a word of no token; some vocabularies have no unknown token."""
    yield tokenizer.unk_token_id
    yield tokenizer.mask_token_id
    yield tokenizer.sep_token_id
    yield 0


def _needs_spaces(tokenizer: Any) -> bool:
    """Whether a word is another token after a space (byte-level BPE, as RoBERTa's)."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or backend.pre_tokenizer is None:
        return False
    return "ByteLevel" in json.dumps(json.loads(backend.to_str())["pre_tokenizer"])
