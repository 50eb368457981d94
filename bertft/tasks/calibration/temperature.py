"""One temperature for all logits, and how far probabilities are from how often they are right.

    T = argmin_T Σ ℓ(z / T, y)                                     Guo et al. 2017, arXiv 1706.04599
    ECE = Σ_b |B_b| / n · |right(B_b) − confidence(B_b)|           B_b: confidence in (b−1, b] / 15

In 1/T the loss is convex. It has no least point where every answer is right (ever larger logits
are better) nor where the logits say less than nothing (at 1/T = 0 it does not fall).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

__all__ = ["CALIBRATION_BINS", "expected_calibration_error", "minimize_temperature"]

CALIBRATION_BINS = 15
_FP32 = torch.finfo(torch.float32)


def minimize_temperature(logits: Tensor, loss: Callable[[Tensor], Tensor]) -> float | None:
    """T of the least ``loss`` of fp64 ``logits`` / T; None where they say less than nothing.

    Whoever calls sees to it that not every answer is right.
    """
    inverse = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(loss(logits * inverse), inverse)
    if slope >= 0:
        return None
    log_t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [log_t], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(logits * torch.exp(-log_t))
        value.backward()
        return value

    optimizer.step(closure)
    fitted = float(log_t.detach().exp())
    # The logits are divided by it in fp32.
    is_in_range = _FP32.tiny <= fitted <= _FP32.max
    return fitted if is_in_range and bool((logits / fitted).float().isfinite().all()) else None


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray, bins: int = CALIBRATION_BINS) -> float:
    """ECE of answers with ``confidence`` in [0, 1] that are ``correct`` or not, both [n]."""
    edges = np.linspace(0.0, 1.0, bins + 1)
    bin_indices = np.clip(np.digitize(confidence, edges, right=True) - 1, 0, bins - 1)
    gaps = np.bincount(bin_indices, correct.astype(np.float64) - confidence, bins)
    return float(np.abs(gaps).sum() / len(confidence))
