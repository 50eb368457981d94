"""How many tokens a row may have, and the special ones among them."""

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
    """The maximum number of tokens per row; None: the smaller of ``default`` and ``model_max``.

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


def reserve_special_tokens(
    tokenizer: PreTrainedTokenizerBase, max_length: int, content_name: str
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
