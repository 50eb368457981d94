"""The maximum length of a row, and the special tokens in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bertft.data.features import without_padding
from bertft.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "reserve_special_tokens",
    "resolve_max_length",
    "special_tokens",
]


def resolve_max_length(requested: int | None, model_max: int, default: int = 256) -> int:
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
