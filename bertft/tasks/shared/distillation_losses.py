"""Distillation losses: student logits z, teacher logits t and a temperature T, as sums.

    categorical   Σ T² · KL(softmax(t/T) ‖ softmax(z/T))
    bernoulli     Σ T² · KL(σ(t/T) ‖ σ(z/T))                  one term per label
    squared       Σ (z − t)²
    spans         Σ ½ (categorical over start + over end), each over the tokens of one sequence

Hinton et al. 2015, arXiv 1503.02531, §2. T² compensates for
gradients that shrink with 1/T². All are 0 where z = t. fp32, or fp64 for fp64 logits. No gradient
flows to the teacher.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bertft.tasks.shared.logits import pad_sequences, to_loss_precision

__all__ = ["bernoulli_kl_loss", "categorical_kl_loss", "span_kl_loss", "squared_error_loss"]


def categorical_kl_loss(
    logits: Tensor, teacher: Tensor, temperature: float, mask: Tensor | None = None
) -> Tensor:
    """Sum over rows of [n, C]; ``mask`` bool [n]: only over these rows."""
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
    """Sum over every element of [n, C]."""
    student_logits, teacher_logits = (
        to_loss_precision(logits) / temperature,
        _detach_teacher(teacher, logits) / temperature,
    )
    positive_terms = torch.sigmoid(teacher_logits) * (
        F.logsigmoid(teacher_logits) - F.logsigmoid(student_logits)
    )
    negative_terms = torch.sigmoid(-teacher_logits) * (
        F.logsigmoid(-teacher_logits) - F.logsigmoid(-student_logits)
    )
    return temperature**2 * (positive_terms + negative_terms).sum()


def squared_error_loss(logits: Tensor, teacher: Tensor) -> Tensor:
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
    student_log_p, teacher_log_p = (
        torch.log_softmax(student_logits, 1),
        torch.log_softmax(teacher_logits, 1),
    )
    # Padding has log-probability −∞ on both sides, and the difference is NaN.
    empty = torch.isinf(teacher_log_p)
    log_ratio = (teacher_log_p - student_log_p.masked_fill(empty, 0.0)).masked_fill(empty, 0.0)
    return 0.5 * temperature**2 * (teacher_log_p.exp() * log_ratio).sum()


def _detach_teacher(teacher: Tensor, logits: Tensor) -> Tensor:
    """The teacher's logits without gradient, in the loss precision of the student's."""
    return teacher.detach().to(to_loss_precision(logits).dtype)
