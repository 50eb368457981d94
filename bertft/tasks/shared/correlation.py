"""Correlation of two series of numbers.

    pearson(a, b) = Σ (a − ā)(b − b̄) / (‖a − ā‖ ‖b − b̄‖)
    spearman(a, b) = pearson(ranks(a), ranks(b))        equal values share their mean rank

Equal to scipy's, except that a constant series, of which nothing can be said, gives 0, not NaN.
"""

from __future__ import annotations

import numpy as np

__all__ = ["pearson", "spearman"]


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """In [−1, 1]; 0 where either series is constant."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    return float(np.clip((a / np.linalg.norm(a)) @ (b / np.linalg.norm(b)), -1.0, 1.0))


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """In [−1, 1]; 0 where either series is constant."""
    return pearson(_ranks(a), _ranks(b))


def _ranks(values: np.ndarray) -> np.ndarray:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]
