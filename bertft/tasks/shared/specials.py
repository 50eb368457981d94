"""The special tokens that a tokenizer puts around a text."""

from __future__ import annotations

from typing import Any

from bertft.data.bare import bare
from bertft.errors import UsageError

__all__ = ["room_between", "special_tokens"]


def special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special tokens before a text, and those after it."""
    with bare(tokenizer):
        whole = tokenizer("a", verbose=False)["input_ids"]
        own = tokenizer("a", add_special_tokens=False, verbose=False)["input_ids"]
    count = tokenizer.num_special_tokens_to_add(pair=False)
    for start in range(count + 1):
        if whole[start : start + len(own)] == own:
            return whole[:start], whole[start + len(own) :]
    raise AssertionError("a tokenizer adds special tokens before and after a text")


def room_between(tokenizer: Any, max_length: int, what: str) -> tuple[list[int], list[int], int]:
    """The special tokens before and after, and how many of ``max_length`` they leave for ``what``.

    UsageError if they leave none.
    """
    before, after = special_tokens(tokenizer)
    room = max_length - len(before) - len(after)
    if room < 1:
        raise UsageError(
            f"{max_length} tokens leave none for {what}, the special ones aside",
            where="data.max_length", hint=f"Set data.max_length={max_length - room + 1} or more",
        )  # fmt: skip
    return before, after, room
