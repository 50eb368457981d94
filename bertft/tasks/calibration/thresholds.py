"""The threshold τ that suits known answers best: what scores τ or more is given.

Every cut between two neighbouring scores is tried, at their midpoint, with those below the lowest
and above the highest (midpoints to 0 and 1), and 0.5. Of cuts that are equally good the one
nearest 0.5 is taken, so that a threshold moves only where that gains.

    f1_micro = 2 Σ_c TP_c / Σ_c (true_c + given_c)        over the labels c

is the largest of all combinations by Dinkelbach's method (1967, Management Science 13): with λ
fixed each label maximises 2 TP_c − λ given_c; then λ ← f1_micro, until it stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bertft.tasks.shared.agreement import f1_score

__all__ = ["ThresholdCurve", "best_index", "best_micro_f1_indices", "threshold_curve"]


@dataclass(frozen=True)
class ThresholdCurve:
    """``thresholds`` [m]; of ``positives`` answers among ``rows``, ``predicted`` and ``true_positives`` at each."""

    thresholds: np.ndarray
    predicted: np.ndarray
    true_positives: np.ndarray
    positives: int
    rows: int

    def f1(self) -> np.ndarray:
        return f1_score(self.true_positives, np.full_like(self.true_positives, self.positives), self.predicted)


def threshold_curve(scores: np.ndarray, truth: np.ndarray) -> ThresholdCurve:
    """Of ``scores`` fp64 in [0, 1] and ``truth`` bool, both [n]."""
    order = np.argsort(scores, kind="stable")
    ascending, sorted_truth = scores[order], truth[order]
    levels = np.concatenate([[0.0], np.unique(ascending), [1.0]])
    low, high = levels[:-1], levels[1:]
    midpoints = low + (high - low) / 2
    # Between neighbouring numbers there may be no other: the upper one then divides as well.
    thresholds = np.unique([*np.where(midpoints > low, midpoints, high), 0.5])
    thresholds = thresholds[(thresholds > 0) & (thresholds < 1)]
    below = np.searchsorted(ascending, thresholds, side="left")
    true_below = np.concatenate([[0], np.cumsum(sorted_truth)])[below]
    positives = int(sorted_truth.sum())
    return ThresholdCurve(thresholds, len(scores) - below, positives - true_below, positives, len(scores))


def best_index(values: np.ndarray, thresholds: np.ndarray) -> int:
    """Place of the largest of ``values`` [m]; on a tie that of the threshold nearest 0.5."""
    indices = np.flatnonzero(values == values.max())
    return int(indices[np.argmin(np.abs(thresholds[indices] - 0.5))])


def best_micro_f1_indices(curves: Sequence[ThresholdCurve]) -> list[int]:
    """Place of each label's cut, together of the largest micro F1."""
    indices = [best_index(-np.abs(label.thresholds - 0.5), label.thresholds) for label in curves]
    value = _micro_f1(curves, indices)
    while True:
        candidate = [best_index(2 * c.true_positives - value * c.predicted, c.thresholds) for c in curves]
        higher = _micro_f1(curves, candidate)
        if not higher > value:
            return indices
        indices, value = candidate, higher


def _micro_f1(curves: Sequence[ThresholdCurve], indices: Sequence[int]) -> float:
    true_positives = sum(int(c.true_positives[k]) for c, k in zip(curves, indices, strict=True))
    predicted = sum(int(c.predicted[k]) for c, k in zip(curves, indices, strict=True))
    total = predicted + sum(c.positives for c in curves)
    return 2 * true_positives / total if total else 0.0
