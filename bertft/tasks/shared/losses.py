"""Training losses of logits z [C] for labels y, with weights and smoothing, as sums over rows.

    categorical   −Σ_c w_c q_c (1 − p_c)^γ log p_c
                  p = softmax(z), q_c = (1 − ε) [c = y] + ε / C
    bernoulli     −Σ_c w_c q_c (1 − p_c)^γ log p_c + (1 − q_c) p_c^γ log(1 − p_c)
                  p = σ(z), q_c = (1 − ε) y_c + ε / 2

Weights w; label smoothing ε (Szegedy et al. 2016, arXiv 1512.00567, §7); focal γ (Lin et al. 2017,
arXiv 1708.02002, §3.2). With γ = 0 they are torch's cross_entropy(weight, label_smoothing), and its
binary one with w as pos_weight; with ε = 0 Lin's −α_t (1 − p_t)^γ log p_t. The mean is the sum
divided by rows (bernoulli: rows × labels), not by the sum of weights: the weight of a row does not
depend on the rest of its batch, and micro-batches add up to their step batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bertft.config.class_weights import match_class
from bertft.errors import UsageError
from bertft.tasks.shared.logits import to_loss_precision
from bertft.utils.messages import format_list

__all__ = [
    "LossOptions",
    "balanced_class_weights",
    "balanced_label_weights",
    "binary_cross_entropy_loss",
    "configured_class_weights",
    "cross_entropy_loss",
]


@dataclass
class LossOptions:
    """``weights`` [C] in fp64; None: all 1. The default is plain cross-entropy."""

    weights: Tensor | None = None
    label_smoothing: float = 0.0
    focal_gamma: float = 0.0

    def weights_for(self, logits: Tensor) -> Tensor | None:
        """The weights on the device and in the dtype of ``logits``; the move is cached."""
        if self.weights is None:
            return None
        if self.weights.device != logits.device:
            self.weights = self.weights.to(logits.dtype).to(logits.device)
        return self.weights.to(logits.dtype)


def cross_entropy_loss(logits: Tensor, labels: Tensor, options: LossOptions) -> Tensor:
    """Summed loss of ``logits`` [n, C], ``labels`` int64 [n]; fp32, or fp64 for fp64 logits."""
    logits = to_loss_precision(logits)
    weights = options.weights_for(logits)
    if options.focal_gamma == 0:
        return F.cross_entropy(
            logits, labels, weights, reduction="sum", label_smoothing=options.label_smoothing
        )
    log_p = torch.log_softmax(logits, -1)
    if options.label_smoothing == 0:
        terms = _focal(log_p.gather(1, labels[:, None])[:, 0], options.focal_gamma)
        return -(terms if weights is None else weights[labels] * terms).sum()
    truth = F.one_hot(labels, logits.shape[1]).to(logits.dtype)
    truth = (1 - options.label_smoothing) * truth + options.label_smoothing / logits.shape[1]
    terms = truth * _focal(log_p, options.focal_gamma)
    return -(terms if weights is None else weights * terms).sum()


def binary_cross_entropy_loss(logits: Tensor, labels: Tensor, options: LossOptions) -> Tensor:
    """Summed loss of ``logits`` and ``labels`` in {0, 1}, [n, C]; fp32, or fp64 for fp64 logits."""
    logits = to_loss_precision(logits)
    weights, truth = options.weights_for(logits), labels.to(logits.dtype)
    if options.label_smoothing:
        truth = (1 - options.label_smoothing) * truth + options.label_smoothing / 2
    if options.focal_gamma == 0:
        return F.binary_cross_entropy_with_logits(
            logits, truth, reduction="sum", pos_weight=weights
        )
    log_p, log_not_p = F.logsigmoid(logits), F.logsigmoid(-logits)
    positive_terms = truth * torch.exp(options.focal_gamma * log_not_p) * log_p
    negative_terms = (1 - truth) * torch.exp(options.focal_gamma * log_p) * log_not_p
    return -(
        (positive_terms if weights is None else weights * positive_terms) + negative_terms
    ).sum()


def _focal(log_p: Tensor, gamma: float) -> Tensor:
    """(1 − p)^γ log p, elementwise."""
    # If p rounds to 1, a power below 1 has no gradient: 1 − p is clamped just above 0.
    tiny = torch.finfo(log_p.dtype).tiny
    return torch.pow(-torch.expm1(log_p.clamp(max=-tiny)), gamma) * log_p


def configured_class_weights(configured: Any, names: Sequence[str]) -> np.ndarray:
    """Weights fp64 [C] from a validated mapping or list; the default per class is 1."""
    if isinstance(configured, dict):
        weight_by_class = {
            match_class(name, names): float(weight) for name, weight in configured.items()
        }
        return np.asarray([weight_by_class.get(name, 1.0) for name in names])
    return np.asarray([float(weight) for weight in configured])


def balanced_class_weights(counts: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Weights [C] from ``counts`` [C] of training rows per class. UsageError if one is 0."""
    _raise_for_classes(counts == 0, names, "no training row")
    return counts.sum() / (len(counts) * counts)


def balanced_label_weights(counts: np.ndarray, rows: int, names: Sequence[str]) -> np.ndarray:
    """Weights [C] from ``counts`` [C] among ``rows``. UsageError if a label has none or all."""
    _raise_for_classes(counts == 0, names, "no training row")
    _raise_for_classes(counts == rows, names, "every training row")
    return (rows - counts) / counts


def _raise_for_classes(wrong: np.ndarray, names: Sequence[str], rows_described: str) -> None:
    if wrong.any():
        affected = format_list(
            [name for name, is_wrong in zip(names, wrong, strict=True) if is_wrong], 8
        )
        raise UsageError(
            f"balanced weights are undefined: {rows_described} has {affected}",
            where="loss.class_weights",
            hint="Set loss.class_weights={label: weight, ...}",
        )
