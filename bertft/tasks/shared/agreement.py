"""How far answers agree with the truth, from integer counts alone.

    F1 = 2·TP / (true + given)                                 per class, label or row
    MCC = (c·s − Σ_k p_k t_k) / √((s² − Σ p_k²)(s² − Σ t_k²))    R_K of Gorodkin (2004)

with s rows, c of them right, t_k truly of class k and p_k given it. Equal to scikit-learn's.
"""

from __future__ import annotations

import numpy as np

__all__ = ["confusion", "f1", "matthews"]


def confusion(truth: np.ndarray, given: np.ndarray, classes: int) -> np.ndarray:
    """Counts [C, C]: rows of true class i that were given class j."""
    return np.bincount(truth * classes + given, minlength=classes**2).reshape(classes, classes)


def f1(
    both: np.ndarray, truth: np.ndarray, given: np.ndarray, undefined: float = 0.0
) -> np.ndarray:
    """Elementwise F1 of counts; ``undefined`` where nothing is true and nothing given."""
    total = np.asarray(truth + given)
    return np.where(total > 0, 2.0 * both / np.maximum(total, 1), undefined)


def matthews(counts: np.ndarray) -> np.ndarray:
    """Matthews' correlation [...] of confusion matrices [..., C, C].

    0 where truth or answers are constant.
    """
    table = counts.astype(np.float64)
    truth, given, rows = table.sum(-1), table.sum(-2), table.sum((-2, -1))
    right = np.trace(table, axis1=-2, axis2=-1)
    spread = (rows**2 - (given**2).sum(-1)) * (rows**2 - (truth**2).sum(-1))
    agreed = right * rows - (given * truth).sum(-1)
    return np.where(spread == 0, 0.0, agreed / np.sqrt(np.where(spread == 0, 1.0, spread)))
