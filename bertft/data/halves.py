"""Two halves of the validation rows, for a choice or a calibration and for its honest report."""

from __future__ import annotations

import numpy as np

__all__ = ["first_half"]


def first_half(rows: int, seed: int) -> np.ndarray:
    """Which of the ``rows`` are in the first half, bool [rows]; with an odd number, the smaller.

    The halves are a permutation of the rows that depends on ``rows`` and ``seed`` alone.
    """
    is_first = np.zeros(rows, bool)
    is_first[np.random.default_rng(seed).permutation(rows)[: rows // 2]] = True
    return is_first
