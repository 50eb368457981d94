"""The share of cells that hold no token, as a run's batches lie in memory, and padded.

1 − Σ tokens / Σ cells        unpadded: 0; packed: R · W per pass; padded: rows · longest per pass
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from bertft.models.plans import pack_rows, packed_row_width

__all__ = ["padding_fraction"]


def padding_fraction(batch_lengths: Iterable[np.ndarray], layout: str) -> float:
    """``batch_lengths``: the lengths in tokens of the sequences of each forward pass."""
    tokens = slots = 0
    for lengths in batch_lengths:
        tokens += int(lengths.sum())
        slots += _count_token_slots(lengths, layout)
    return 1 - tokens / slots if slots else 0.0


def _count_token_slots(lengths: np.ndarray, layout: str) -> int:
    if layout == "unpadded":
        return int(lengths.sum())
    if layout == "padded":
        return len(lengths) * int(lengths.max())
    width = packed_row_width(lengths.tolist())
    return width * pack_rows(lengths.tolist(), width)[2]
