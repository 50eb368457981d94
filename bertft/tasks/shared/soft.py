"""Losses of a student's logits z against a teacher's t, softened by a temperature T, as sums.

    categorical   Σ T² · KL(softmax(t/T) ‖ softmax(z/T))
    bernoulli     Σ T² · KL(σ(t/T) ‖ σ(z/T))                  a term a label
    squared       Σ (z − t)²
    spans         Σ ½ (categorical over start + over end), each over one sequence's own tokens

Hinton et al. 2015, arXiv 1503.02531, §2. T² keeps the gradient's size, which 1/T² would else
shrink. All are 0 where z = t. fp32, or fp64 for fp64 logits. The teacher gets no gradient.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bertft.tasks.shared.apart import apart
from bertft.tasks.shared.scores import precise

__all__ = ["bernoulli", "categorical", "spans", "squared"]


def categorical(
    logits: Tensor, teacher: Tensor, temperature: float, places: Tensor | None = None
) -> Tensor:
    """Over the last dimension of [n, C]; ``places`` bool [n]: of those rows alone."""
    terms = F.kl_div(
        torch.log_softmax(precise(logits) / temperature, -1),
        torch.log_softmax(_fixed(teacher, logits) / temperature, -1),
        reduction="none",
        log_target=True,
    )
    if places is not None:
        terms = terms.masked_fill(~places.unsqueeze(1), 0.0)
    return temperature**2 * terms.sum()


def bernoulli(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Over every element of [n, C]."""
    student, taught = precise(logits) / temperature, _fixed(teacher, logits) / temperature
    yes = torch.sigmoid(taught) * (F.logsigmoid(taught) - F.logsigmoid(student))
    no = torch.sigmoid(-taught) * (F.logsigmoid(-taught) - F.logsigmoid(-student))
    return temperature**2 * (yes + no).sum()


def squared(logits: Tensor, teacher: Tensor) -> Tensor:
    return (precise(logits) - _fixed(teacher, logits)).square().sum()


def spans(
    logits: Tensor, teacher: Tensor, lengths: Tensor, seen: Tensor, temperature: float
) -> Tensor:
    """Logits [N, 2] of start and end; ``lengths`` [B] on the CPU; ``seen`` bool [N].

    Only seen tokens (the context's, and whatever stands for "no answer") take part; each sequence
    has at least one.
    """
    unseen = ~seen.unsqueeze(-1)
    student, taught = (
        apart(each.masked_fill(unseen, float("-inf")), lengths) / temperature
        for each in (precise(logits), _fixed(teacher, logits))
    )
    mine, theirs = torch.log_softmax(student, 1), torch.log_softmax(taught, 1)
    # Places without a token have log-probability −∞ on both sides, and their difference is NaN.
    empty = torch.isinf(theirs)
    gap = (theirs - mine.masked_fill(empty, 0.0)).masked_fill(empty, 0.0)
    return 0.5 * temperature**2 * (theirs.exp() * gap).sum()


def _fixed(teacher: Tensor, logits: Tensor) -> Tensor:
    """The teacher's logits without gradient, as precise as the student's."""
    return teacher.detach().to(precise(logits).dtype)
