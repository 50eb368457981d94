"""Texts to token ids, alone or in pairs, cut "longest first" to ``max_length`` tokens.

    budget = max_length − special tokens
    a pair keeps  n_short = min(len_short, ⌊budget / 2⌋),  n_long = min(len_long, budget − n_short)

which is what tokenizers' own "longest_first" keeps. Cutting happens here because tokenizers also
builds every overflowing piece against every other one: quadratic time and memory in a long pair
(two texts of 4,000 words, cut to 16 tokens: 12 seconds and 5 GB).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bertft.data.features import without_padding
from bertft.errors import UsageError

__all__ = [
    "encode_texts",
    "keep_longest_first",
    "reserve_special_tokens",
    "resolve_max_length",
    "special_tokens",
]


def special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special tokens before a text, and those after it."""
    with without_padding(tokenizer):
        with_specials = tokenizer("a", verbose=False)["input_ids"]
        content = tokenizer("a", add_special_tokens=False, verbose=False)["input_ids"]
    count = tokenizer.num_special_tokens_to_add(pair=False)
    for start in range(count + 1):
        if with_specials[start : start + len(content)] == content:
            return with_specials[:start], with_specials[start + len(content) :]
    raise AssertionError("a tokenizer adds special tokens before and after a text")


def reserve_special_tokens(
    tokenizer: Any, max_length: int, content_name: str
) -> tuple[list[int], list[int], int]:
    """The special tokens before and after, and how many of ``max_length`` they leave for
    ``content_name``.

    UsageError if they leave none.
    """
    before, after = special_tokens(tokenizer)
    available = max_length - len(before) - len(after)
    if available < 1:
        raise UsageError(
            f"{max_length} tokens leave none for {content_name}, the special ones aside",
            where="data.max_length",
            hint=f"Set data.max_length={max_length - available + 1} or more",
        )
    return before, after, available


# An Encoding costs some hundred bytes a token, so a slice of rows is bounded by characters too.
_SLICE_ROWS, _SLICE_CHARACTERS = 1024, 1 << 20


def resolve_max_length(requested: int | None, model_max: int, default: int = 256) -> int:
    """Tokens a row may have; null asks for the smaller of ``default`` and ``model_max``.

    Raises UsageError if ``requested`` is more than the model takes.
    """
    if requested is None:
        return min(default, model_max)
    if requested > model_max:
        raise UsageError(
            f"{requested} tokens are more than the model takes",
            where="data.max_length",
            hint=f"Its longest input is {model_max}: set data.max_length={model_max} or less",
        )
    return requested


def keep_longest_first(first: int, second: int, budget: int) -> tuple[int, int]:
    """How many tokens of each text stay; an odd one goes to the longer, the second on a tie."""
    if first + second <= budget:
        return first, second
    if first > second:
        second, first = keep_longest_first(second, first, budget)
        return first, second
    first = min(first, budget // 2)
    return first, min(second, budget - first)


def encode_texts(
    tokenizer: Any, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int
) -> dict[str, Any]:
    """``input_ids`` (an int32 array a row), ``token_type_ids`` (int8; only where the tokenizer
    names them among its model's inputs) and ``truncated`` (int8 [rows], 1 where tokens were cut).

    The tokenizer's truncation and padding, which a file may have baked in, are not applied.
    Raises UsageError if ``max_length`` leaves no room beside the special tokens.
    """
    token_budget = max_length - tokenizer.num_special_tokens_to_add(pair=pairs is not None)
    needed = 1 if pairs is None else 2
    if token_budget < needed:
        raise UsageError(
            f"{max_length} tokens leave {max(token_budget, 0)} for text, the special ones aside",
            where="data.max_length",
            hint=f"Set data.max_length={max_length - token_budget + needed} or more",
        )
    has_token_types = "token_type_ids" in tokenizer.model_input_names
    encode = _encode_fast if getattr(tokenizer, "is_fast", False) else _encode_slow
    ids: list[np.ndarray] = []
    types: list[np.ndarray] = []
    truncated: list[bool] = []
    for text_slice in _iter_slices(texts, pairs):
        for row_ids, row_types, was_truncated in encode(
            tokenizer, texts[text_slice], None if pairs is None else pairs[text_slice], max_length
        ):
            ids.append(np.asarray(row_ids, np.int32))
            truncated.append(was_truncated)
            if has_token_types:
                types.append(np.asarray(row_types, np.int8))
    columns: dict[str, Any] = {"input_ids": ids, "truncated": np.asarray(truncated, np.int8)}
    if has_token_types:
        columns["token_type_ids"] = types
    return columns


EncodedRow = tuple[Sequence[int] | np.ndarray, Sequence[int] | np.ndarray, bool]


def _iter_slices(texts: Sequence[str], pairs: Sequence[str] | None) -> Iterator[slice]:
    start = characters = 0
    for row, text in enumerate(texts):
        size = len(text) + (len(pairs[row]) if pairs is not None else 0)
        full = row - start == _SLICE_ROWS or characters + size > _SLICE_CHARACTERS
        if full and row > start:
            yield slice(start, row)
            start, characters = row, 0
        characters += size
    if start < len(texts):
        yield slice(start, len(texts))


def _encode_fast(
    tokenizer: Any, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int
) -> Iterator[EncodedRow]:
    inputs = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
    with without_padding(tokenizer) as backend:
        encodings = backend.encode_batch_fast(inputs)
    for encoding in encodings:
        if len(encoding) <= max_length:
            yield encoding.ids, encoding.type_ids, False
        else:
            keep_mask = _truncation_mask(
                encoding.sequence_ids, max_length, tokenizer.truncation_side
            )
            yield (
                np.asarray(encoding.ids)[keep_mask],
                np.asarray(encoding.type_ids)[keep_mask],
                True,
            )


def _truncation_mask(sequence_ids: Sequence[int | None], max_length: int, side: str) -> np.ndarray:
    """Mask over a row's tokens: special ones (None) all stay, each text loses those at ``side``."""
    text_numbers = np.asarray([-1 if number is None else number for number in sequence_ids])
    token_positions = [np.flatnonzero(text_numbers == number) for number in (0, 1)]
    token_budget = max_length - int((text_numbers == -1).sum())
    mask = text_numbers == -1
    for text_positions, count in zip(
        token_positions,
        keep_longest_first(len(token_positions[0]), len(token_positions[1]), token_budget),
        strict=True,
    ):
        mask[
            text_positions[:count]
            if side == "right"
            else text_positions[len(text_positions) - count :]
        ] = True
    return mask


def _encode_slow(
    tokenizer: Any, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int
) -> Iterator[EncodedRow]:
    """Tokenizers written in Python: no sequence ids to cut by, but no quadratic cost either."""
    for row, text in enumerate(texts):
        inputs = (text,) if pairs is None else (text, pairs[row])
        encoded = tokenizer(*inputs, return_token_type_ids=True, verbose=False)
        is_too_long = len(encoded["input_ids"]) > max_length
        if is_too_long:
            encoded = tokenizer(
                *inputs,
                truncation="longest_first",
                max_length=max_length,
                return_token_type_ids=True,
                verbose=False,
            )
        yield encoded["input_ids"], encoded["token_type_ids"], is_too_long
