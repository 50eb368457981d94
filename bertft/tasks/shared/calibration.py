"""Calibration: temperature scaling, expected calibration error (ECE) and thresholds.

    T = argmin_T Σ ℓ(z / T, y)                                     Guo et al. 2017, arXiv 1706.04599
    ECE = Σ_b |B_b| / n · |right(B_b) − confidence(B_b)|           B_b: confidence in (b−1, b] / 15

The loss is convex in 1/T. It has no minimum if every prediction is correct (larger logits are
always better), or if the logits are worse than constant ones (the loss does not fall at 1/T = 0).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bertft.tasks.shared.metrics import f1_score

__all__ = [
    "CALIBRATION_BINS",
    "ThresholdCurve",
    "best_index",
    "best_micro_f1_indices",
    "expected_calibration_error",
    "micro_f1",
    "minimize_temperature",
    "threshold_curve",
]


@dataclass(frozen=True)
class ThresholdCurve:
    """Counts at each of ``thresholds`` [m]: ``predicted`` [m] and ``true_positives`` [m].

    ``positives`` of the ``rows`` have the class.
    """

    thresholds: np.ndarray
    predicted: np.ndarray
    true_positives: np.ndarray
    positives: int
    rows: int

    def f1(self) -> np.ndarray:
        """F1 of the class [m]."""
        return f1_score(
            self.true_positives, np.full_like(self.true_positives, self.positives), self.predicted
        )


def threshold_curve(scores: np.ndarray, truth: np.ndarray) -> ThresholdCurve:
    """The curve of ``scores`` fp64 in [0, 1] and ``truth`` bool, both [n]."""
    order = np.argsort(scores, kind="stable")
    ascending, sorted_truth = scores[order], truth[order]
    levels = np.concatenate([[0.0], np.unique(ascending), [1.0]])
    low, high = levels[:-1], levels[1:]
    midpoints = low + (high - low) / 2
    # Two adjacent floats have no number between them: the upper one separates them as well.
    thresholds = np.unique([*np.where(midpoints > low, midpoints, high), 0.5])
    thresholds = thresholds[(thresholds > 0) & (thresholds < 1)]
    below = np.searchsorted(ascending, thresholds, side="left")
    true_below = np.concatenate([[0], np.cumsum(sorted_truth)])[below]
    positives = int(sorted_truth.sum())
    return ThresholdCurve(
        thresholds, len(scores) - below, positives - true_below, positives, len(scores)
    )


def best_index(values: np.ndarray, thresholds: np.ndarray) -> int:
    """Index of the largest of ``values`` [m]; on a tie, of the threshold closest to 0.5."""
    indices = np.flatnonzero(values == values.max())
    return int(indices[np.argmin(np.abs(thresholds[indices] - 0.5))])


def best_micro_f1_indices(curves: Sequence[ThresholdCurve]) -> list[int]:
    """Index of the threshold of each label that together give the largest micro F1."""
    indices = [best_index(-np.abs(curve.thresholds - 0.5), curve.thresholds) for curve in curves]
    value = micro_f1(curves, indices)
    # F1 is above ``value`` where Σ (2·TP − value·predicted) over the labels is larger; the sum is
    # maximized per label (Dinkelbach's algorithm for a ratio).
    while True:
        candidates = [
            best_index(2 * curve.true_positives - value * curve.predicted, curve.thresholds)
            for curve in curves
        ]
        candidate_value = micro_f1(curves, candidates)
        if not candidate_value > value:
            return indices
        indices, value = candidates, candidate_value


def micro_f1(curves: Sequence[ThresholdCurve], indices: Sequence[int]) -> float:
    """Micro F1 with one threshold per label, each given by its index in the curve."""
    pairs = list(zip(curves, indices, strict=True))
    true_positives = sum(int(curve.true_positives[index]) for curve, index in pairs)
    predicted = sum(int(curve.predicted[index]) for curve, index in pairs)
    total = predicted + sum(curve.positives for curve in curves)
    return 2 * true_positives / total if total else 0.0


CALIBRATION_BINS = 15
_FP32 = torch.finfo(torch.float32)


def minimize_temperature(logits: Tensor, loss: Callable[[Tensor], Tensor]) -> float | None:
    """T that minimizes ``loss`` of fp64 ``logits`` / T; None if there is no minimum.

    At least one prediction must be wrong, which the caller checks.
    """
    inverse_t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(loss(logits * inverse_t), inverse_t)
    if slope >= 0:
        return None
    log_t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [log_t],
        max_iter=200,
        tolerance_grad=1e-12,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(logits * torch.exp(-log_t))
        value.backward()
        return value

    optimizer.step(closure)
    fitted = float(log_t.detach().exp())
    # The logits are divided by T in fp32.
    is_in_range = _FP32.tiny <= fitted <= _FP32.max
    return fitted if is_in_range and bool((logits / fitted).float().isfinite().all()) else None


def expected_calibration_error(
    confidence: np.ndarray, correct: np.ndarray, bins: int = CALIBRATION_BINS
) -> float:
    """ECE of predictions with ``confidence`` in [0, 1] that are ``correct`` or not, both [n]."""
    edges = np.linspace(0.0, 1.0, bins + 1)
    bin_indices = np.clip(np.digitize(confidence, edges, right=True) - 1, 0, bins - 1)
    gaps = np.bincount(bin_indices, correct.astype(np.float64) - confidence, bins)
    return float(np.abs(gaps).sum() / len(confidence))
