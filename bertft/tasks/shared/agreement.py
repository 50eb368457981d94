"""How far answers agree with the truth, from integer counts alone.

    F1 = 2·TP / (true + given)                                 per class, label or row
    MCC = (c·s − Σ_k p_k t_k) / √((s² − Σ p_k²)(s² − Σ t_k²))    R_K of Gorodkin (2004)

with s rows, c of them right, t_k truly of class k and p_k given it. Equal to scikit-learn's.
"""

from __future__ import annotations

import numpy as np

__all__ = ["confusion_matrix", "f1_score", "matthews_correlation"]


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts [C, C]: rows of true class i that were given class j."""
    return np.bincount(truth * num_classes + predicted, minlength=num_classes**2).reshape(num_classes, num_classes)


def f1_score(
    true_positives: np.ndarray, truth: np.ndarray, predicted: np.ndarray, when_undefined: float = 0.0
) -> np.ndarray:
    """Elementwise F1 of counts; ``when_undefined`` where nothing is true and nothing given."""
    total = np.asarray(truth + predicted)
    return np.where(total > 0, 2.0 * true_positives / np.maximum(total, 1), when_undefined)


def matthews_correlation(counts: np.ndarray) -> np.ndarray:
    """Matthews' correlation [...] of confusion matrices [..., C, C].

    0 where truth or answers are constant.
    """
    table = counts.astype(np.float64)
    truth, predicted, rows = table.sum(-1), table.sum(-2), table.sum((-2, -1))
    correct = np.trace(table, axis1=-2, axis2=-1)
    variance_product = (rows**2 - (predicted**2).sum(-1)) * (rows**2 - (truth**2).sum(-1))
    covariance = correct * rows - (predicted * truth).sum(-1)
    return np.where(variance_product == 0, 0.0, covariance / np.sqrt(np.where(variance_product == 0, 1.0, variance_product)))
