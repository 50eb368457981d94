"""Texts → features of at most ``max_length`` tokens: a long text is split between words.

input_ids   [specials | tokens | specials]
word        number of each token's word in its text; −1 for special tokens
"""

from __future__ import annotations

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
    "INPUT_ENCODING",
    "MaskingVocabulary",
    "choose_positions",
    "encode_text_chunks",
    "mask_tokens",
]


_SLICE_TEXTS = 1024  # texts tokenized at once


@dataclass(frozen=True)
class MaskingVocabulary:
    """Token ids: of the mask, of all ``special`` tokens, and of all ``ordinary`` ones."""

    mask: int
    special: np.ndarray
    ordinary: np.ndarray


def choose_positions(
    ids: np.ndarray,
    words: np.ndarray,
    vocabulary: MaskingVocabulary,
    mlm_probability: float,
    whole_words: bool,
    generator: np.random.Generator,
) -> np.ndarray:
    """Positions to mask, ascending, in a feature with ``ids`` and ``words`` [n] (−1: no word)."""
    candidates = np.flatnonzero((words >= 0) & ~np.isin(ids, vocabulary.special))
    if len(candidates) == 0:
        return candidates
    count = max(1, round(mlm_probability * len(candidates)))
    if not whole_words:
        return np.sort(generator.permutation(candidates)[:count])
    distinct_words, word_numbers = np.unique(words[candidates], return_inverse=True)
    order = generator.permutation(len(distinct_words))
    sizes = np.bincount(word_numbers)[order]
    chosen_words = order[: int(np.searchsorted(np.cumsum(sizes), count)) + 1]
    return candidates[np.isin(word_numbers, chosen_words)]


def mask_tokens(
    ids: np.ndarray,
    positions: np.ndarray,
    vocabulary: MaskingVocabulary,
    generator: np.random.Generator,
) -> None:
    """Mask ``ids`` at ``positions`` in place: 80 % [MASK], 10 % a random token, 10 % unchanged."""
    chance = generator.random(len(positions))
    ids[positions[chance < 0.8]] = vocabulary.mask
    replaced = positions[(chance >= 0.8) & (chance < 0.9)]
    ids[replaced] = generator.choice(vocabulary.ordinary, len(replaced))


def encode_text_chunks(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int
) -> dict[str, Any]:
    """Features that together contain every token of every text once.

    Raises UsageError if ``max_length`` leaves no room for a token.
    """
    before, after, room = reserve_special_tokens(tokenizer, max_length, "text")
    columns: dict[str, list[Any]] = {"input_ids": [], "word": [], "row": []}
    for start in range(0, len(texts), _SLICE_TEXTS):
        text_slice = list(texts[start : start + _SLICE_TEXTS])
        for row, (ids, words) in enumerate(_tokenize(tokenizer, text_slice), start):
            for chunk_start, chunk_stop in _chunk_bounds(words, room):
                chunk_ids = [*before, *ids[chunk_start:chunk_stop], *after]
                word_numbers = words[chunk_start:chunk_stop]
                chunk_words = [*[-1] * len(before), *word_numbers, *[-1] * len(after)]
                columns["input_ids"].append(np.asarray(chunk_ids, np.int32))
                columns["word"].append(np.asarray(chunk_words, np.int32))
                columns["row"].append(row)
    if "token_type_ids" in tokenizer.model_input_names:
        columns["token_type_ids"] = [np.zeros(len(ids), np.int8) for ids in columns["input_ids"]]
    return columns


def _tokenize(
    tokenizer: PreTrainedTokenizerBase, texts: list[str]
) -> Iterator[tuple[list[int], list[int]]]:
    """Tokens of each text, and their word numbers; with slow tokenizers each token is a word."""
    with without_padding(tokenizer):
        encoded = tokenizer(texts, add_special_tokens=False, verbose=False)
    for number, ids in enumerate(encoded["input_ids"]):
        words = (
            encoded.word_ids(number) if getattr(tokenizer, "is_fast", False) else range(len(ids))
        )
        yield ids, list(words)


def _chunk_bounds(words: Sequence[int], room: int) -> Iterator[tuple[int, int]]:
    """Chunks of at most ``room`` tokens; only words longer than that are split."""
    start = 0
    while start < len(words):
        stop = min(start + room, len(words))
        boundary = stop
        while boundary > start and boundary < len(words) and words[boundary] == words[boundary - 1]:
            boundary -= 1
        stop = boundary if boundary > start else stop
        yield start, stop
        start = stop


def _encode_rows(
    tokenizer: PreTrainedTokenizerBase,
    rows: Mapping[str, Sequence[Any]],
    config: DataConfig,
    max_length: int,
) -> dict[str, Any]:
    return encode_text_chunks(tokenizer, rows["text"], max_length)


INPUT_ENCODING = InputEncoding(_encode_rows)
