"""Metrics of predictions: F1 and Matthews' correlation from counts, Pearson's and Spearman's.

    F1 = 2·TP / (true + predicted)                               per class, label or row
    MCC = (c·s − Σ_k p_k t_k) / √((s² − Σ p_k²)(s² − Σ t_k²))    R_K of Gorodkin (2004)

with s rows, c of them correct, t_k of true class k and p_k predicted as k. Equal to scikit-learn.
"""

from __future__ import annotations

import numpy as np

__all__ = [
    "average_precision",
    "confusion_matrix",
    "f1_score",
    "matthews_correlation",
    "pearson",
    "roc_auc",
    "spearman",
    "weighted_pearson",
    "weighted_spearman",
]


_CONSTANT = 1e-12  # a relative variance up to this is rounding


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation of ``a`` and ``b`` [n], in [−1, 1]; 0 if either is constant."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    return float(np.clip((a / np.linalg.norm(a)) @ (b / np.linalg.norm(b)), -1.0, 1.0))


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's correlation of ``a`` and ``b`` [n], in [−1, 1]; 0 if either is constant."""
    return pearson(_ranks(a), _ranks(b))


def weighted_pearson(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """``pearson`` [B] of values that count ``weights`` [B, n] times; a, b are [n] or [B, n]."""
    total = weights.sum(1)
    a, b = (series - series.mean(-1, keepdims=True) for series in (a, b))
    mean_a, mean_b = ((weights * series).sum(1) / total for series in (a, b))
    variance_a = (weights * a**2).sum(1) / total - mean_a**2
    variance_b = (weights * b**2).sum(1) / total - mean_b**2
    is_constant = (variance_a <= _CONSTANT * (a**2).mean(-1)) | (
        variance_b <= _CONSTANT * (b**2).mean(-1)
    )
    covariance = (weights * a * b).sum(1) / total - mean_a * mean_b
    std_product = np.sqrt(np.where(is_constant, 1.0, variance_a * variance_b))
    return np.where(is_constant, 0.0, np.clip(covariance / std_product, -1.0, 1.0))


def weighted_spearman(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """``spearman`` [B] of values [n] that count ``weights`` [B, n] times."""
    return weighted_pearson(_weighted_ranks(a, weights), _weighted_ranks(b, weights), weights)


def _weighted_ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean rank [B, n] of each value among all of its copies."""
    order = np.argsort(values, kind="stable")
    run_starts = np.flatnonzero(np.r_[True, np.diff(values[order]) > 0])
    copies = np.add.reduceat(weights[:, order], run_starts, axis=1)
    ranks = np.cumsum(copies, 1) - (copies - 1) / 2
    _, value_indices = np.unique(values, return_inverse=True)
    return ranks[:, value_indices]


def _ranks(values: np.ndarray) -> np.ndarray:
    """Mean rank [n] of each value, from 1."""
    _, value_indices, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[value_indices]


def roc_auc(truth: np.ndarray, scores: np.ndarray) -> float:
    """P(score of a positive > score of a negative), ties count half; ``truth`` bool [n].

    NaN without a positive or without a negative.
    """
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if not positives or not negatives:
        return float("nan")
    rank_sum = float(_ranks(scores)[truth].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def average_precision(truth: np.ndarray, scores: np.ndarray) -> float:
    """Σ_k (recall_k − recall_{k−1}) · precision_k over the thresholds; ``truth`` bool [n].

    NaN without a positive.
    """
    positives = int(truth.sum())
    if not positives:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    true_positives = np.cumsum(truth[order])
    # Rows with equal scores are predicted together.
    last_of_score = np.flatnonzero(np.r_[np.diff(scores[order]) != 0, True])
    counts = true_positives[last_of_score]
    precision = counts / (last_of_score + 1)
    return float((np.diff(np.r_[0, counts]) * precision).sum() / positives)


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts [C, C]: rows of true class i with the prediction j."""
    return np.bincount(truth * num_classes + predicted, minlength=num_classes**2).reshape(
        num_classes, num_classes
    )


def f1_score(
    true_positives: np.ndarray,
    truth: np.ndarray,
    predicted: np.ndarray,
    when_undefined: float = 0.0,
) -> np.ndarray:
    """Elementwise F1 of counts; ``when_undefined`` if nothing is true or predicted."""
    total = np.asarray(truth + predicted)
    return np.where(total > 0, 2.0 * true_positives / np.maximum(total, 1), when_undefined)


def matthews_correlation(counts: np.ndarray) -> np.ndarray:
    """Matthews' correlation [...] of confusion matrices [..., C, C].

    0 where truth or predictions are constant.
    """
    table = counts.astype(np.float64)
    truth, predicted, rows = table.sum(-1), table.sum(-2), table.sum((-2, -1))
    correct = np.trace(table, axis1=-2, axis2=-1)
    variance_product = (rows**2 - (predicted**2).sum(-1)) * (rows**2 - (truth**2).sum(-1))
    covariance = correct * rows - (predicted * truth).sum(-1)
    return np.where(
        variance_product == 0,
        0.0,
        covariance / np.sqrt(np.where(variance_product == 0, 1.0, variance_product)),
    )
