"""The losses of a student beside its teacher, each over terms of its own.

hard        the task's own loss                      over the sequences that have labels
soft        the task's soft loss to the teacher      over all of them
hidden      mean over the compared states            over tokens
attention   mean over the compared layers            over pairs of tokens
relation    of one layer                             over tokens
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from bertft.data.batch import Batch
from bertft.methods.distill.inner import ComparedStates
from bertft.methods.distill.losses import attention_loss, hidden_loss, relation_loss
from bertft.methods.distill.teacher import Teacher
from bertft.methods.objective import TaskLoss, Objective
from bertft.models.runner import EncoderRunner
from bertft.models.sequences import SequenceLayout
from bertft.models.trace import ActivationRecorder

__all__ = ["DistillationObjective", "DistillableTask"]


class DistillableTask(TaskLoss, Protocol):
    """What distillation asks of a task (see ``bertft.tasks.task``)."""

    def count_distillation_terms(self, batch: Batch) -> int: ...
    def distillation_loss(
        self, logits: Tensor, teacher: Tensor, batch: Batch, temperature: float
    ) -> Tensor: ...


@dataclass
class _ForwardOutputs:
    student_logits: Tensor
    teacher_logits: Tensor
    recorders: tuple[ActivationRecorder, ActivationRecorder] | None


class DistillationObjective(Objective):
    """``weights``: those above 0. ``projections``: W of each pair of ``compared.hidden``, or none."""

    def __init__(
        self,
        task: DistillableTask,
        weights: Mapping[str, float],
        temperature: float,
        teacher: Teacher,
        compared: ComparedStates,
        projections: Sequence[nn.Module],
    ) -> None:
        self.task, self.weights, self.temperature = task, weights, temperature
        self.teacher, self.compared = teacher, compared
        given_projections: list[nn.Module | None] = list(projections)
        self.projections = given_projections or [None] * len(compared.hidden)

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
        recorders = self.compared.make_recorders()
        student_recorder, teacher_recorder = recorders or (None, None)
        return _ForwardOutputs(runner(batch, student_recorder), self.teacher(batch, teacher_recorder), recorders)

    def loss_sums(self, outputs: _ForwardOutputs, batch: Batch) -> Mapping[str, Tensor]:
        sums: dict[str, Tensor] = {}
        if "hard" in self.weights:
            sums["hard"] = self._hard_loss(outputs.student_logits, batch)
        if "soft" in self.weights:
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
        return self.task.loss(logits[batch.labelled_indices(self.task.level)], batch.select_labelled())

    def _inner_losses(self, student_recorder: ActivationRecorder, teacher_recorder: ActivationRecorder, batch: Batch) -> dict[str, Tensor]:
        compared, sums = self.compared, {}
        layout = SequenceLayout(batch.lengths.tolist(), "unpadded", batch.device)
        if compared.hidden:
            losses = [
                hidden_loss(student_recorder.hidden_states[s], teacher_recorder.hidden_states[t], project)
                for (s, t), project in zip(compared.hidden, self.projections, strict=True)
            ]
            sums["hidden"] = torch.stack(losses).mean()
        if compared.attention:
            losses = [
                attention_loss(student_recorder.head_states[s], teacher_recorder.head_states[t], layout)
                for s, t in compared.attention
            ]
            sums["attention"] = torch.stack(losses).mean()
        if compared.relation is not None:
            student, teacher = compared.relation
            sums["relation"] = relation_loss(
                student_recorder.head_states[student], teacher_recorder.head_states[teacher], compared.relation_heads, layout
            )
        return sums
