"""The special tokens that a tokenizer puts around a text."""

from __future__ import annotations

from typing import Any

from bertft.data.bare import bare

__all__ = ["special_tokens"]


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
