"""A tokenizer without the truncation and padding that a file may have baked into it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["bare"]


@contextmanager
def bare(backend: Any) -> Iterator[None]:
    """Take both off a ``tokenizers.Tokenizer`` for a while: it is saved with the run, as it was."""
    truncation, padding = backend.truncation, backend.padding
    backend.no_truncation()
    backend.no_padding()
    try:
        yield
    finally:
        if truncation is not None:
            backend.enable_truncation(**truncation)
        if padding is not None:
            backend.enable_padding(**padding)
