"""A tokenizer without the truncation and padding that a file may have baked into it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["without_padding"]


@contextmanager
def without_padding(tokenizer: Any) -> Iterator[Any]:
    """Its ``tokenizers.Tokenizer``, both off for a while: it is saved with the run as it was.

    None of a tokenizer written in Python, which applies neither unless it is asked to.
    """
    if not getattr(tokenizer, "is_fast", False):
        yield None
        return
    backend = tokenizer.backend_tokenizer
    truncation, padding = backend.truncation, backend.padding
    backend.no_truncation()
    backend.no_padding()
    try:
        yield backend
    finally:
        if truncation is not None:
            backend.enable_truncation(**truncation)
        if padding is not None:
            backend.enable_padding(**padding)
