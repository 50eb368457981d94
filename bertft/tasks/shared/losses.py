"""Losses of logits z [C], as sums over rows: for labels y, and for a teacher's logits t.

Labels:

    categorical   −Σ_c w_c q_c (1 − p_c)^γ log p_c
                  p = softmax(z), q_c = (1 − ε) [c = y] + ε / C
    bernoulli     −Σ_c w_c q_c (1 − p_c)^γ log p_c + (1 − q_c) p_c^γ log(1 − p_c)
                  p = σ(z), q_c = (1 − ε) y_c + ε / 2

Weights w; label smoothing ε (Szegedy et al. 2016, arXiv 1512.00567, §7); focal γ (Lin et al. 2017,
arXiv 1708.02002, §3.2). With γ = 0 they are torch's cross_entropy(weight, label_smoothing), and its
binary one with w as pos_weight; with ε = 0 Lin's −α_t (1 − p_t)^γ log p_t. The mean is the sum
divided by rows (bernoulli: rows × labels), not by the sum of weights: the weight of a row does not
depend on the rest of its batch, and micro-batches add up to their step batch.

Teacher, at temperature T (Hinton et al. 2015, arXiv 1503.02531, §2). T² compensates for gradients
that shrink with 1/T². All are 0 where z = t, and no gradient flows to the teacher:

    categorical   Σ T² · KL(softmax(t/T) ‖ softmax(z/T))
    bernoulli     Σ T² · KL(σ(t/T) ‖ σ(z/T))                  one term per label
    squared       Σ (z − t)²
    spans         Σ ½ (categorical over start + over end), each over the tokens of one sequence

All losses are computed in fp32, or in fp64 for fp64 logits.
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
from bertft.data.batch import to_device
from bertft.errors import UsageError
from bertft.utils.messages import format_list

__all__ = [
    "LossOptions",
    "balanced_class_weights",
    "balanced_label_weights",
    "bernoulli_kl_loss",
    "binary_cross_entropy_loss",
    "categorical_kl_loss",
    "configured_class_weights",
    "cross_entropy_loss",
    "pad_sequences",
    "span_kl_loss",
    "squared_error_loss",
    "to_loss_precision",
]


def to_loss_precision(logits: Tensor) -> Tensor:
    """Logits in the precision that losses are computed in: fp32, or fp64 where they are fp64."""
    return logits if logits.element_size() == 8 else logits.float()


@dataclass
class LossOptions:
    """``weights`` [C] in fp64; None: all 1. The default is plain cross-entropy."""

    weights: Tensor | None = None
    label_smoothing: float = 0.0
    focal_gamma: float = 0.0

    @property
    def is_plain(self) -> bool:
        """Whether the loss is the metric ``loss``."""
        return self.weights is None and not self.label_smoothing and not self.focal_gamma

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


def categorical_kl_loss(
    logits: Tensor, teacher: Tensor, temperature: float, mask: Tensor | None = None
) -> Tensor:
    """Sum over the rows of ``logits`` and ``teacher``, [n, C]; ``mask`` bool [n]: only these."""
    terms = F.kl_div(
        torch.log_softmax(to_loss_precision(logits) / temperature, -1),
        torch.log_softmax(_detach_teacher(teacher, logits) / temperature, -1),
        reduction="none",
        log_target=True,
    )
    if mask is not None:
        terms = terms.masked_fill(~mask.unsqueeze(1), 0.0)
    return temperature**2 * terms.sum()


def bernoulli_kl_loss(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Sum over every element of ``logits`` and ``teacher``, [n, C]."""
    student_logits = to_loss_precision(logits) / temperature
    teacher_logits = _detach_teacher(teacher, logits) / temperature
    positive_terms = torch.sigmoid(teacher_logits) * (
        F.logsigmoid(teacher_logits) - F.logsigmoid(student_logits)
    )
    negative_terms = torch.sigmoid(-teacher_logits) * (
        F.logsigmoid(-teacher_logits) - F.logsigmoid(-student_logits)
    )
    return temperature**2 * (positive_terms + negative_terms).sum()


def squared_error_loss(logits: Tensor, teacher: Tensor) -> Tensor:
    """Sum over every element of ``logits`` and ``teacher``, which have the same shape."""
    return (to_loss_precision(logits) - _detach_teacher(teacher, logits)).square().sum()


def span_kl_loss(
    logits: Tensor, teacher: Tensor, lengths: Tensor, visible: Tensor, temperature: float
) -> Tensor:
    """Logits [N, 2] of start and end; ``lengths`` [B] on the CPU; ``visible`` bool [N].

    Only visible tokens (the context and the "no answer" token) are included; each sequence has at
    least one.
    """
    hidden = ~visible.unsqueeze(-1)
    student_logits, teacher_logits = (
        pad_sequences(values.masked_fill(hidden, float("-inf")), lengths) / temperature
        for values in (to_loss_precision(logits), _detach_teacher(teacher, logits))
    )
    student_log_p = torch.log_softmax(student_logits, 1)
    teacher_log_p = torch.log_softmax(teacher_logits, 1)
    # Padding has log-probability −∞ on both sides, and the difference is NaN.
    empty = torch.isinf(teacher_log_p)
    log_ratio = (teacher_log_p - student_log_p.masked_fill(empty, 0.0)).masked_fill(empty, 0.0)
    return 0.5 * temperature**2 * (teacher_log_p.exp() * log_ratio).sum()


def _detach_teacher(teacher: Tensor, logits: Tensor) -> Tensor:
    """The teacher's logits without gradient, in the loss precision of the student's."""
    return teacher.detach().to(to_loss_precision(logits).dtype)


def pad_sequences(values: Tensor, lengths: Tensor) -> Tensor:
    """Concatenated [N, ...] → padded [B, longest, ...], with −∞ as padding.

    ``lengths`` is on the CPU, so that the positions are computed without a device sync.
    """
    longest = int(lengths.max())
    is_token = np.arange(longest) < lengths.numpy()[:, None]
    empty = values.new_full((is_token.size, *values.shape[1:]), float("-inf"))
    filled = empty.index_copy(0, to_device(np.flatnonzero(is_token), values.device), values)
    return filled.unflatten(0, is_token.shape)


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
            hint="Set 'loss.class_weights={<label>: <weight>, ...}'",
        )
