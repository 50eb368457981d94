"""Texts → tokens: the maximum length of a row, the special tokens in it, and truncation.

Texts are truncated "longest first" to ``max_length`` tokens:

    budget = max_length − special tokens
    a pair keeps  n_short = min(len_short, ⌊budget / 2⌋),  n_long = min(len_long, budget − n_short)

which equals tokenizers' "longest_first". Truncation is implemented here because tokenizers also
pairs every overflowing piece with every other one: quadratic time and memory for a long pair
(two texts of 4,000 words, truncated to 16 tokens: 12 seconds and 5 GB).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bertft.config.data import DataConfig
from bertft.data.features import without_padding
from bertft.errors import UsageError
from bertft.tasks.shared.joined_texts import separate_texts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "DEFAULT_MAX_LENGTH",
    "TEXTS_ENCODING",
    "InputEncoding",
    "encode_texts",
    "keep_longest_first",
    "reserve_special_tokens",
    "resolve_max_length",
    "special_tokens",
]

DEFAULT_MAX_LENGTH = 256
# An Encoding takes some hundred bytes per token, so a slice is also limited in characters.
_SLICE_ROWS, _SLICE_CHARACTERS = 1024, 1 << 20


def resolve_max_length(
    requested: int | None, model_max: int, default: int = DEFAULT_MAX_LENGTH
) -> int:
    """The maximum number of tokens per row; default: the smaller of ``default`` and ``model_max``.

    Raises UsageError if ``requested`` is more than ``model_max``.
    """
    if requested is None:
        return min(default, model_max)
    if requested > model_max:
        raise UsageError(
            f"{requested} tokens are more than the model supports",
            where="data.max_length",
            hint=f"Set data.max_length={model_max} or less",
        )
    return requested


def reserve_special_tokens(
    tokenizer: PreTrainedTokenizerBase, max_length: int, content_name: str
) -> tuple[list[int], list[int], int]:
    """The special tokens before and after a text, and the number of tokens that remain for it.

    Raises UsageError, with ``content_name`` for what is encoded, if none remain.
    """
    before, after = special_tokens(tokenizer)
    available = max_length - len(before) - len(after)
    if available < 1:
        raise UsageError(
            f"{max_length} tokens are too few: the special tokens leave none for {content_name}",
            where="data.max_length",
            hint=f"Set data.max_length={max_length - available + 1} or more",
        )
    return before, after, available


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The special tokens before a text, and those after it."""
    with without_padding(tokenizer):
        with_specials = tokenizer("a", verbose=False)["input_ids"]
        content = tokenizer("a", add_special_tokens=False, verbose=False)["input_ids"]
    count = tokenizer.num_special_tokens_to_add(pair=False)
    for start in range(count + 1):
        if with_specials[start : start + len(content)] == content:
            return with_specials[:start], with_specials[start + len(content) :]
    raise AssertionError("a tokenizer adds special tokens before and after a text")


def encode_texts(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    max_length: int,
) -> dict[str, Any]:
    """Feature columns of ``texts``, or of pairs of ``texts`` and ``pairs``.

    Several texts in one of ``pairs`` (``join_texts``) are separated by the tokenizer's separator.

    ``input_ids`` (one int32 array per row), ``token_type_ids`` (int8; only if they are in the
    tokenizer's ``model_input_names``) and ``cut_tokens`` (int32 [rows], the tokens that were
    removed).

    Truncation and padding that are stored in the tokenizer's file are not applied.
    Raises UsageError if ``max_length`` leaves no room next to the special tokens.
    """
    token_budget = max_length - tokenizer.num_special_tokens_to_add(pair=pairs is not None)
    min_tokens = 1 if pairs is None else 2
    if token_budget < min_tokens:
        raise UsageError(
            f"{max_length} tokens are too few: the special tokens leave"
            f" {max(token_budget, 0)} for text",
            where="data.max_length",
            hint=f"Set data.max_length={max_length - token_budget + min_tokens} or more",
        )
    if pairs is not None:
        pairs = separate_texts(pairs, tokenizer)
    has_token_types = "token_type_ids" in tokenizer.model_input_names
    encode = _encode_fast if getattr(tokenizer, "is_fast", False) else _encode_slow
    ids: list[np.ndarray] = []
    types: list[np.ndarray] = []
    cut: list[int] = []
    for text_slice in _iter_slices(texts, pairs):
        for row_ids, row_types, cut_tokens in encode(
            tokenizer, texts[text_slice], None if pairs is None else pairs[text_slice], max_length
        ):
            ids.append(np.asarray(row_ids, np.int32))
            cut.append(cut_tokens)
            if has_token_types:
                types.append(np.asarray(row_types, np.int8))
    columns: dict[str, Any] = {"input_ids": ids, "cut_tokens": np.asarray(cut, np.int32)}
    if has_token_types:
        columns["token_type_ids"] = types
    return columns


# Token ids, token types, and the number of tokens that were cut.
EncodedRow = tuple[Sequence[int] | np.ndarray, Sequence[int] | np.ndarray, int]


def _iter_slices(texts: Sequence[str], pairs: Sequence[str] | None) -> Iterator[slice]:
    """Slices of the rows with at most ``_SLICE_ROWS`` rows and ``_SLICE_CHARACTERS`` characters."""
    start = characters = 0
    for row, text in enumerate(texts):
        size = len(text) + (len(pairs[row]) if pairs is not None else 0)
        is_full = row - start == _SLICE_ROWS or characters + size > _SLICE_CHARACTERS
        if is_full and row > start:
            yield slice(start, row)
            start, characters = row, 0
        characters += size
    if start < len(texts):
        yield slice(start, len(texts))


def _encode_fast(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    max_length: int,
) -> Iterator[EncodedRow]:
    inputs = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
    with without_padding(tokenizer) as backend:
        encodings = backend.encode_batch_fast(inputs)
    for encoding in encodings:
        if len(encoding) <= max_length:
            yield encoding.ids, encoding.type_ids, 0
        else:
            keep_mask = _truncation_mask(
                encoding.sequence_ids, max_length, tokenizer.truncation_side
            )
            yield (
                np.asarray(encoding.ids)[keep_mask],
                np.asarray(encoding.type_ids)[keep_mask],
                len(encoding) - max_length,
            )


def _encode_slow(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    max_length: int,
) -> Iterator[EncodedRow]:
    """Slow tokenizers: they have no sequence ids, but their truncation has no quadratic cost."""
    for row, text in enumerate(texts):
        inputs = (text,) if pairs is None else (text, pairs[row])
        encoded = tokenizer(*inputs, return_token_type_ids=True, verbose=False)
        full_length = len(encoded["input_ids"])
        if full_length > max_length:
            encoded = tokenizer(
                *inputs,
                truncation="longest_first",
                max_length=max_length,
                return_token_type_ids=True,
                verbose=False,
            )
        yield (
            encoded["input_ids"],
            encoded["token_type_ids"],
            full_length - len(encoded["input_ids"]),
        )


def _truncation_mask(sequence_ids: Sequence[int | None], max_length: int, side: str) -> np.ndarray:
    """Which tokens of a row stay: all special tokens (None); each text is truncated at ``side``."""
    text_numbers = np.asarray([-1 if number is None else number for number in sequence_ids])
    mask = text_numbers == -1
    positions = [np.flatnonzero(text_numbers == number) for number in (0, 1)]
    counts = keep_longest_first(len(positions[0]), len(positions[1]), max_length - int(mask.sum()))
    for text_positions, count in zip(positions, counts, strict=True):
        start = 0 if side == "right" else len(text_positions) - count
        mask[text_positions[start : start + count]] = True
    return mask


def keep_longest_first(first: int, second: int, budget: int) -> tuple[int, int]:
    """Tokens of each text that stay; an odd one goes to the longer text, else to the second.

    ``first`` and ``second``: tokens of each text.
    """
    if first + second <= budget:
        return first, second
    shorter = min(first, second, budget // 2)
    longer = budget - shorter
    return (longer, shorter) if first > second else (shorter, longer)


@dataclass(frozen=True)
class InputEncoding:
    """How a task makes the inputs of a model from rows without labels. It does not need torch.

    Attributes:
        encode: (tokenizer, columns of rows, data settings, maximum length) → feature columns with
            ``input_ids`` and ``row``.
        default_max_length: data.max_length if it is null.
    """

    encode: Callable[[Any, Mapping[str, Sequence[Any]], DataConfig, int], dict[str, Any]]
    default_max_length: int = DEFAULT_MAX_LENGTH


def _encode_rows(
    tokenizer: PreTrainedTokenizerBase,
    rows: Mapping[str, Sequence[Any]],
    config: DataConfig,
    max_length: int,
) -> dict[str, Any]:
    columns = encode_texts(tokenizer, rows["text"], rows.get("text_pair"), max_length)
    return columns | {"row": np.arange(len(rows["text"]), dtype=np.int64)}


TEXTS_ENCODING = InputEncoding(_encode_rows)
