"""The share of cells that hold no token, as a run's batches lie in memory, and padded.

1 − Σ tokens / Σ cells        unpadded: 0; packed: R · W per pass; padded: rows · longest per pass
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from bertft.models.plans import plan_rows, row_width

__all__ = ["padding_share"]


def padding_share(passes: Iterable[np.ndarray], layout: str) -> float:
    """``passes``: the lengths in tokens of the sequences of each forward pass."""
    tokens = cells = 0
    for lengths in passes:
        tokens += int(lengths.sum())
        cells += _cells(lengths, layout)
    return 1 - tokens / cells if cells else 0.0


def _cells(lengths: np.ndarray, layout: str) -> int:
    if layout == "unpadded":
        return int(lengths.sum())
    if layout == "padded":
        return len(lengths) * int(lengths.max())
    width = row_width(lengths.tolist())
    return width * plan_rows(lengths.tolist(), width)[2]
