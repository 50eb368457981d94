"""Losses on inner states, as sums over tokens or pairs of tokens that belong to one sequence.

    hidden      Σ_tokens  mean_dims (W·h_S − h_T)²                 Jiao et al. 2020, eq. 9
    attention   Σ_pairs   mean_heads (s_S − s_T)²,  s = q·kᵀ·scale Jiao et al. 2020, eq. 8
    relation    Σ_tokens  mean over q, k, v and R heads of KL(ρ_T ‖ ρ_S),
                ρ = softmax(x·xᵀ/√d), x cut into R heads of d      Wang et al. 2021, §3.1

TinyBERT: arXiv 1909.10351. MiniLMv2: arXiv 2012.15828. Tokens come end to end, N in all;
``sequences`` (layout unpadded) says where each sequence lies. fp32, or fp64 for fp64 states.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bertft.models.padding import pad
from bertft.models.sequences import Sequences
from bertft.models.trace import Heads

__all__ = ["attention_loss", "hidden_loss", "relation_loss"]


def hidden_loss(student: Tensor, teacher: Tensor, project: nn.Module | None) -> Tensor:
    """States [N, H_S] and [N, H_T]; ``project`` is W, None where the widths match."""
    student = _precise(student)
    if project is not None:
        student = project(student)
    return (student - _precise(teacher).detach()).square().mean(-1).sum()


def attention_loss(student: Heads, teacher: Heads, sequences: Sequences) -> Tensor:
    """Both have the same number of heads. Pairs that one of the two does not see count 0."""
    total = student.query.new_zeros((), dtype=_precise(student.query).dtype)
    seen = min((each for each in (student.window, teacher.window) if each), default=None)
    for real, (qs, ks, qt, kt) in _blocks(
        sequences, student.query, student.key, teacher.query, teacher.key
    ):
        gap = (qs * student.scale) @ ks.transpose(2, 3) - (
            (qt * teacher.scale) @ kt.transpose(2, 3)
        ).detach()
        mask = real[:, None, :, None] & real[:, None, None, :]
        if seen is not None:
            steps = torch.arange(real.shape[1], device=real.device)
            mask = mask & ((steps[:, None] - steps[None, :]).abs() < seen)
        total = total + gap.square().mean(1, keepdim=True).masked_fill(~mask, 0.0).sum()
    return total


def relation_loss(student: Heads, teacher: Heads, heads: int, sequences: Sequences) -> Tensor:
    """Queries, keys and values cut into ``heads``, which divides the width of both models."""
    total = student.query.new_zeros((), dtype=_precise(student.query).dtype)
    pairs = [
        (student.query, teacher.query),
        (student.key, teacher.key),
        (student.value, teacher.value),
    ]
    for mine, theirs in pairs:
        cut = (each.flatten(1).unflatten(1, (heads, -1)) for each in (mine, theirs))
        for real, (xs, xt) in _blocks(sequences, *cut):
            learnt, taught = _relations(xs, real), _relations(xt.detach(), real)
            kept = real[:, None, :, None] & real[:, None, None, :]
            divergence = F.kl_div(learnt, taught, reduction="none", log_target=True)
            total = total + divergence.masked_fill(~kept, 0.0).sum()
    return total / (3 * heads)


def _relations(x: Tensor, real: Tensor) -> Tensor:
    """log softmax(x·xᵀ/√d) [n, R, T, T]; keys that are none have a very small share."""
    scores = x @ x.transpose(2, 3) / math.sqrt(x.shape[-1])
    # Not −∞: the difference of two is NaN, and reaches the gradient through any mask.
    low = torch.finfo(scores.dtype).min / 4
    return torch.log_softmax(scores.masked_fill(~real[:, None, None, :], low), -1)


def _blocks(sequences: Sequences, *tokens: Tensor) -> Iterator[tuple[Tensor, list[Tensor]]]:
    """Each run of the stream: which places are real [n, T]; each [N, h, d] as [n, h, T, d]."""
    for run in sequences.runs:
        real = sequences.run_real(run)
        parts = [pad(each[run.start : run.stop], run, sequences) for each in tokens]
        yield real, [_precise(part).transpose(1, 2) for part in parts]


def _precise(values: Tensor) -> Tensor:
    """fp32, or fp64 where the values are fp64: sums over many pairs want more than 8 bits."""
    return values if values.element_size() == 8 else values.float()
