"""The special tokens that a tokenizer puts around a text."""

from __future__ import annotations

from typing import Any

from bertft.data.bare import without_padding
from bertft.errors import UsageError

__all__ = ["reserve_special_tokens", "special_tokens"]


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


def reserve_special_tokens(tokenizer: Any, max_length: int, content_name: str) -> tuple[list[int], list[int], int]:
    """The special tokens before and after, and how many of ``max_length`` they leave for ``content_name``.

    UsageError if they leave none.
    """
    before, after = special_tokens(tokenizer)
    available = max_length - len(before) - len(after)
    if available < 1:
        raise UsageError(
            f"{max_length} tokens leave none for {content_name}, the special ones aside",
            where="data.max_length", hint=f"Set data.max_length={max_length - available + 1} or more",
        )  # fmt: skip
    return before, after, available
