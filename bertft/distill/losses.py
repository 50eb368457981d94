"""Losses on inner states: sums over tokens, or over pairs of tokens of the same sequence.

    hidden      Σ_tokens  mean_dims (W·h_S − h_T)²                 Jiao et al. 2020, eq. 9
    attention   Σ_pairs   mean_heads (s_S − s_T)²,  s = q·kᵀ·scale Jiao et al. 2020, eq. 8
    relation    Σ_tokens  mean over q, k, v and R heads of KL(ρ_T ‖ ρ_S),
                ρ = softmax(x·xᵀ/√d), x split into R heads of d    Wang et al. 2021, §3.1

TinyBERT: arXiv 1909.10351. MiniLMv2: arXiv 2012.15828. The N tokens of a batch are concatenated
without padding; ``layout`` holds the boundaries of the sequences. Losses are computed in fp32, or
in fp64 if the states are fp64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bertft.data.batch import Batch
from bertft.distill.layer_mapping import ComparedStates
from bertft.distill.teachers import Teacher
from bertft.methods.component import Objective, TaskLoss
from bertft.models.forward_state import ActivationRecorder, HeadStates
from bertft.models.precision import at_least_fp32
from bertft.models.runner import EncoderRunner
from bertft.models.sequence_layout import SequenceLayout, pad_chunk

__all__ = [
    "INNER_LOSSES",
    "DistillableTask",
    "DistillationObjective",
    "attention_loss",
    "hidden_loss",
    "inner_stage_steps",
    "relation_loss",
]


class DistillableTask(TaskLoss, Protocol):
    """The methods of a task that distillation uses (see ``bertft.tasks.task``)."""

    def count_distillation_terms(self, batch: Batch) -> int: ...
    def distillation_loss(
        self, logits: Tensor, teacher: Tensor, batch: Batch, temperature: float
    ) -> Tensor: ...


INNER_LOSSES = ("hidden", "attention", "relation")


@dataclass
class _ForwardOutputs:
    """``teacher_logits``: None if no loss of the step uses the teacher."""

    student_logits: Tensor
    teacher_logits: Tensor | None
    recorders: tuple[ActivationRecorder, ActivationRecorder] | None


class DistillationObjective(Objective[_ForwardOutputs]):
    """The weighted sum of the task's loss and the distillation losses.

    With an ``inner_fraction`` f there are two stages (Jiao et al. 2020, section 3.1): the first
    ⌊f · steps⌋ steps have only the losses on inner states, the others only those on outputs.

    Args:
        weights: loss → weight, all above 0.
        projections: W for each pair of ``compared.hidden``; empty if the widths are equal.
    """

    label_loss = "hard"

    def __init__(
        self,
        task: DistillableTask,
        weights: Mapping[str, float],
        temperature: float,
        teacher: Teacher,
        compared: ComparedStates,
        projections: Sequence[nn.Module],
        inner_fraction: float = 0.0,
    ) -> None:
        self.task, self.weights, self.temperature = task, weights, temperature
        self.inner_fraction = inner_fraction
        self._all_weights = dict(weights)
        self.teacher, self.compared = teacher, compared
        projections_or_none: list[nn.Module | None] = list(projections)
        self.projections = projections_or_none or [None] * len(compared.hidden)

    def begin_step(self, step: int, total_steps: int) -> None:
        if not self.inner_fraction:
            return
        is_inner_stage = step <= inner_stage_steps(self.inner_fraction, total_steps)
        self.weights = {
            name: weight
            for name, weight in self._all_weights.items()
            if (name in INNER_LOSSES) == is_inner_stage
        }
        self.trains_outputs = not is_inner_stage

    def term_counts(self, batch: Batch) -> Mapping[str, int]:
        tokens, pairs = int(batch.lengths.sum()), int(batch.lengths.square().sum())
        counts = {"hidden": tokens, "attention": pairs, "relation": tokens}
        if "hard" in self.weights:
            counts["hard"] = self._count_hard_terms(batch)
        if "soft" in self.weights:
            counts["soft"] = self.task.count_distillation_terms(batch)
        return {name: counts[name] for name in self.weights}

    def _count_hard_terms(self, batch: Batch) -> int:
        labelled = batch.select_labelled()
        return self.task.count_loss_terms(labelled) if len(labelled) else 0

    def forward(self, runner: EncoderRunner, batch: Batch) -> _ForwardOutputs:
        compares_states = any(name in self.weights for name in INNER_LOSSES)
        recorders = self.compared.make_recorders() if compares_states else None
        student_recorder, teacher_recorder = recorders or (None, None)
        student_logits, teacher_logits = runner(batch, student_recorder), None
        if recorders is not None or "soft" in self.weights:
            teacher_logits = self.teacher(batch, teacher_recorder)
        return _ForwardOutputs(student_logits, teacher_logits, recorders)

    def loss_sums(self, outputs: _ForwardOutputs, batch: Batch) -> Mapping[str, Tensor]:
        sums: dict[str, Tensor] = {}
        if "hard" in self.weights:
            sums["hard"] = self._hard_loss(outputs.student_logits, batch)
        if "soft" in self.weights:
            assert outputs.teacher_logits is not None
            sums["soft"] = self.task.distillation_loss(
                outputs.student_logits, outputs.teacher_logits, batch, self.temperature
            )
        if outputs.recorders is not None:
            sums |= self._inner_losses(*outputs.recorders, batch)
        return sums

    def _hard_loss(self, logits: Tensor, batch: Batch) -> Tensor:
        if batch.label_mask is None:
            return self.task.loss(logits, batch)
        if not batch.label_mask.any():
            return 0.0 * logits.float().sum()
        return self.task.loss(
            logits[batch.labelled_indices(self.task.level)], batch.select_labelled()
        )

    def _inner_losses(
        self,
        student_recorder: ActivationRecorder,
        teacher_recorder: ActivationRecorder,
        batch: Batch,
    ) -> dict[str, Tensor]:
        compared, sums = self.compared, {}
        layout = SequenceLayout(batch.lengths.tolist(), "unpadded", batch.device)
        if compared.hidden:
            losses = [
                hidden_loss(
                    student_recorder.hidden_states[s], teacher_recorder.hidden_states[t], project
                )
                for (s, t), project in zip(compared.hidden, self.projections, strict=True)
            ]
            sums["hidden"] = torch.stack(losses).mean()
        if compared.attention:
            losses = [
                attention_loss(
                    student_recorder.head_states[s], teacher_recorder.head_states[t], layout
                )
                for s, t in compared.attention
            ]
            sums["attention"] = torch.stack(losses).mean()
        if compared.relation is not None:
            student, teacher = compared.relation
            sums["relation"] = relation_loss(
                student_recorder.head_states[student],
                teacher_recorder.head_states[teacher],
                compared.relation_heads,
                layout,
            )
        return sums


def inner_stage_steps(inner_fraction: float, total_steps: int) -> int:
    """Number of steps of the first stage. The last step of a run is always in the second."""
    return min(math.floor(inner_fraction * total_steps), total_steps - 1)


def hidden_loss(student: Tensor, teacher: Tensor, project: nn.Module | None) -> Tensor:
    """Compare states [N, H_S] and [N, H_T]; ``project`` is W, None if the widths are equal."""
    student = _to_at_least_fp32(student)
    if project is not None:
        student = project(student)
    return (student - _to_at_least_fp32(teacher).detach()).square().mean(-1).sum()


def attention_loss(student: HeadStates, teacher: HeadStates, layout: SequenceLayout) -> Tensor:
    """Compare attention scores; student and teacher must have the same number of heads.

    Pairs outside the attention window of either model add 0.
    """
    total = student.query.new_zeros((), dtype=_to_at_least_fp32(student.query).dtype)
    window = min((limit for limit in (student.window, teacher.window) if limit), default=None)
    for token_mask, (qs, ks, qt, kt) in _padded_chunks(
        layout, student.query, student.key, teacher.query, teacher.key
    ):
        difference = (qs * student.scale) @ ks.transpose(2, 3) - (
            (qt * teacher.scale) @ kt.transpose(2, 3)
        ).detach()
        mask = token_mask[:, None, :, None] & token_mask[:, None, None, :]
        if window is not None:
            positions = torch.arange(token_mask.shape[1], device=token_mask.device)
            mask = mask & ((positions[:, None] - positions[None, :]).abs() < window)
        total = total + difference.square().mean(1, keepdim=True).masked_fill(~mask, 0.0).sum()
    return total


def relation_loss(
    student: HeadStates, teacher: HeadStates, heads: int, layout: SequenceLayout
) -> Tensor:
    """Compare relations of queries, keys and values, split into ``heads`` heads.

    The widths of both models must be divisible by ``heads``.
    """
    total = student.query.new_zeros((), dtype=_to_at_least_fp32(student.query).dtype)
    pairs = [
        (student.query, teacher.query),
        (student.key, teacher.key),
        (student.value, teacher.value),
    ]
    for student_states, teacher_states in pairs:
        by_head = (
            states.flatten(1).unflatten(1, (heads, -1))
            for states in (student_states, teacher_states)
        )
        for token_mask, (xs, xt) in _padded_chunks(layout, *by_head):
            student_log_probs, teacher_log_probs = (
                _relation_log_probs(xs, token_mask),
                _relation_log_probs(xt.detach(), token_mask),
            )
            pair_mask = token_mask[:, None, :, None] & token_mask[:, None, None, :]
            divergence = F.kl_div(
                student_log_probs, teacher_log_probs, reduction="none", log_target=True
            )
            total = total + divergence.masked_fill(~pair_mask, 0.0).sum()
    return total / (3 * heads)


def _relation_log_probs(x: Tensor, token_mask: Tensor) -> Tensor:
    """log softmax(x·xᵀ/√d) [n, R, T, T]; padding keys have a probability near 0."""
    scores = x @ x.transpose(2, 3) / math.sqrt(x.shape[-1])
    # Not −∞: −∞ − (−∞) is NaN, which would reach the gradient in spite of the mask.
    masked_score = torch.finfo(scores.dtype).min / 4
    return torch.log_softmax(scores.masked_fill(~token_mask[:, None, None, :], masked_score), -1)


def _padded_chunks(
    layout: SequenceLayout, *tokens: Tensor
) -> Iterator[tuple[Tensor, list[Tensor]]]:
    """Yield the token mask [n, T] per chunk, and each of ``tokens`` [N, h, d] as [n, h, T, d]."""
    for chunk in layout.chunks:
        token_mask = layout.chunk_token_mask(chunk)
        padded = [
            pad_chunk(states[chunk.token_start : chunk.token_end], chunk, layout)
            for states in tokens
        ]
        yield (
            token_mask,
            [_to_at_least_fp32(padded_states).transpose(1, 2) for padded_states in padded],
        )


def _to_at_least_fp32(values: Tensor) -> Tensor:
    """Cast to fp32; fp64 stays fp64. Sums over many pairs need more than the 8 bits of bf16."""
    return values.to(at_least_fp32(values.dtype))
