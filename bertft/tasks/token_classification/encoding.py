"""Rows of words → features: one per window, in which the first token of each word represents it.

    input_ids   [specials | tokens of the window's words | specials]
    word        number of the word at its first token; −1 at all other tokens, and where another
                window predicts the word
    labels      class of the word at the same tokens, −100 elsewhere

A word is truncated to the tokens that fit next to the special tokens. A word without tokens (a lone
control character) becomes the unknown token, so that no word is lost.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bertft.config.data import DataConfig
from bertft.data.features import without_padding
from bertft.tasks.shared.encoding import InputEncoding, reserve_special_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "IGNORE_INDEX",
    "INPUT_ENCODING",
    "WordWindow",
    "encode_words",
    "split_into_windows",
]


@dataclass(frozen=True)
class WordWindow:
    """Words [start, stop) of a sentence; [answer_start, answer_stop) are predicted here."""

    start: int
    stop: int
    answer_start: int
    answer_stop: int


def split_into_windows(sizes: Sequence[int], room: int, overlap: int) -> list[WordWindow]:
    """Windows that predict every word once; ``sizes`` [words] in tokens, each at most ``room``."""
    bounds = _window_bounds(sizes, room, overlap)
    if len(bounds) == 1:
        return [WordWindow(0, len(sizes), 0, len(sizes))]
    ends = np.concatenate([[0], np.cumsum(sizes)])
    context_tokens = np.full((len(bounds), len(sizes)), -1)
    for number, (start, stop) in enumerate(bounds):
        words = np.arange(start, stop)
        before, after = ends[words] - ends[start], ends[stop] - ends[words + 1]
        context_tokens[number, words] = np.minimum(before, after)
    # The window with the most context on the smaller side, in ascending order of the words.
    window_of_word = np.maximum.accumulate(context_tokens.argmax(0))
    return [
        WordWindow(start, stop, *np.searchsorted(window_of_word, [number, number + 1]).tolist())
        for number, (start, stop) in enumerate(bounds)
    ]


def _window_bounds(sizes: Sequence[int], room: int, overlap: int) -> list[tuple[int, int]]:
    """Start and stop of each window; it starts with words of the one before, if they fit."""
    bounds: list[tuple[int, int]] = []
    start = 0
    while True:
        stop, tokens_used = start, 0
        while stop < len(sizes) and tokens_used + sizes[stop] <= room:
            tokens_used += sizes[stop]
            stop += 1
        bounds.append((start, stop))
        if stop == len(sizes):
            return bounds
        next_start, tokens_used = stop, 0
        # The next window must contain a word that this one does not.
        max_overlap = min(overlap, room - sizes[stop])
        while next_start - 1 > start and tokens_used + sizes[next_start - 1] <= max_overlap:
            next_start -= 1
            tokens_used += sizes[next_start]
        start = next_start


IGNORE_INDEX = -100

_OVERLAP_DIVISOR = 4  # consecutive windows overlap by at most 1/4 of their room


def encode_words(
    tokenizer: PreTrainedTokenizerBase,
    rows: Mapping[str, Sequence[Any]],
    labels: Sequence[Sequence[int]] | None,
    max_length: int,
) -> dict[str, Any]:
    """Feature columns of ``rows`` with text, starts and stops; ``labels``: one class per word.

    Raises UsageError if ``max_length`` leaves no room for a word.
    """
    before, after, room = reserve_special_tokens(tokenizer, max_length, "words")
    has_spaces = _needs_spaces(tokenizer)
    words = [
        list(_word_texts(*row, has_spaces))
        for row in zip(rows["text"], rows["starts"], rows["stops"], strict=True)
    ]
    tokens_by_word = _tokenize_words(tokenizer, words, room)
    columns: dict[str, list[Any]] = {"input_ids": [], "word": [], "row": []}
    if labels is not None:
        columns["labels"] = []
    for row, sentence in enumerate(words):
        tokens = [tokens_by_word[word] for word in sentence]
        sizes = [len(word_tokens) for word_tokens in tokens]
        for window in split_into_windows(sizes, room, room // _OVERLAP_DIVISOR):
            window_words = range(window.start, window.stop)
            ids = [*before, *(token for word in window_words for token in tokens[word]), *after]
            word_starts = len(before) + np.cumsum([0, *sizes[window.start : window.stop]])[:-1]
            answer_words = slice(window.answer_start, window.answer_stop)
            answer_tokens = word_starts[
                window.answer_start - window.start : window.answer_stop - window.start
            ]
            word_numbers = np.full(len(ids), -1, np.int32)
            word_numbers[answer_tokens] = np.arange(len(sizes))[answer_words]
            columns["input_ids"].append(np.asarray(ids, np.int32))
            columns["word"].append(word_numbers)
            columns["row"].append(row)
            if labels is not None:
                classes = np.full(len(ids), IGNORE_INDEX, np.int32)
                classes[answer_tokens] = labels[row][answer_words]
                columns["labels"].append(classes)
    if "token_type_ids" in tokenizer.model_input_names:
        columns["token_type_ids"] = [np.zeros(len(ids), np.int8) for ids in columns["input_ids"]]
    return columns


def _word_texts(
    text: str, starts: Sequence[int], stops: Sequence[int], has_spaces: bool
) -> Iterator[str]:
    """The words of ``text``; ``has_spaces``: with the space before the word, if there is one."""
    for start, stop in zip(starts, stops, strict=True):
        has_space = has_spaces and text[start - 1 : start] == " "
        yield text[start - 1 : stop] if has_space else text[start:stop]


def _tokenize_words(
    tokenizer: PreTrainedTokenizerBase, sentences: Sequence[Sequence[str]], room: int
) -> dict[str, list[int]]:
    """The tokens of each distinct word."""
    distinct_words = list(dict.fromkeys(word for sentence in sentences for word in sentence))
    with without_padding(tokenizer):
        ids = tokenizer(distinct_words, add_special_tokens=False, verbose=False)["input_ids"]
    unknown = [next(token for token in _placeholder_tokens(tokenizer) if token is not None)]
    return {
        word: tokens[:room] or unknown for word, tokens in zip(distinct_words, ids, strict=True)
    }


def _placeholder_tokens(tokenizer: PreTrainedTokenizerBase) -> Iterator[int | None]:
    """Tokens for a word without tokens; some vocabularies have no unknown token."""
    yield tokenizer.unk_token_id
    yield tokenizer.mask_token_id
    yield tokenizer.sep_token_id
    yield 0


def _needs_spaces(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether words have other tokens after a space (byte-level BPE, as in RoBERTa)."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or backend.pre_tokenizer is None:
        return False
    return "ByteLevel" in json.dumps(json.loads(backend.to_str())["pre_tokenizer"])


def _encode_rows(
    tokenizer: PreTrainedTokenizerBase,
    rows: Mapping[str, Sequence[Any]],
    config: DataConfig,
    max_length: int,
) -> dict[str, Any]:
    return encode_words(tokenizer, rows, None, max_length)


INPUT_ENCODING = InputEncoding(_encode_rows)
