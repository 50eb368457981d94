"""transformers reports missing keys and shards by itself; bertft says what matters in its words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

__all__ = ["silence_transformers"]


@contextlib.contextmanager
def silence_transformers() -> Iterator[None]:
    """No log lines below errors and no progress bars of transformers within the block."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    progress_bars_enabled = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if progress_bars_enabled:
            logging.enable_progress_bar()
