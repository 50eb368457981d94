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
from bertft.methods.distill.inner import Inner
from bertft.methods.distill.losses import attention_loss, hidden_loss, relation_loss
from bertft.methods.distill.teacher import Teacher
from bertft.methods.objective import HardLoss, Objective
from bertft.models.runner import EncoderRunner
from bertft.models.sequences import Sequences
from bertft.models.trace import Trace

__all__ = ["DistillObjective", "SoftLoss"]


class SoftLoss(HardLoss, Protocol):
    """What distillation asks of a task (see ``bertft.tasks.task``)."""

    def soft_terms(self, batch: Batch) -> int: ...
    def soft_loss(
        self, logits: Tensor, teacher: Tensor, batch: Batch, temperature: float
    ) -> Tensor: ...


@dataclass
class _Passed:
    logits: Tensor
    taught: Tensor
    traces: tuple[Trace, Trace] | None


class DistillObjective(Objective):
    """``weights``: those above 0. ``projections``: W of each pair of ``inner.hidden``, or none."""

    def __init__(
        self,
        task: SoftLoss,
        weights: Mapping[str, float],
        temperature: float,
        teacher: Teacher,
        inner: Inner,
        projections: Sequence[nn.Module],
    ) -> None:
        self.task, self.weights, self.temperature = task, weights, temperature
        self.teacher, self.inner = teacher, inner
        given: list[nn.Module | None] = list(projections)
        self.projections = given or [None] * len(inner.hidden)

    def terms(self, batch: Batch) -> Mapping[str, int]:
        tokens, pairs = int(batch.lengths.sum()), int(batch.lengths.square().sum())
        counts = {"hidden": tokens, "attention": pairs, "relation": tokens}
        if "hard" in self.weights:
            counts["hard"] = self._hard_terms(batch)
        if "soft" in self.weights:
            counts["soft"] = self.task.soft_terms(batch)
        return {name: counts[name] for name in self.weights}

    def _hard_terms(self, batch: Batch) -> int:
        answered = batch.answered()
        return self.task.terms(answered) if len(answered) else 0

    def forward(self, runner: EncoderRunner, batch: Batch) -> _Passed:
        traces = self.inner.traces()
        mine, theirs = traces or (None, None)
        return _Passed(runner(batch, mine), self.teacher(batch, theirs), traces)

    def sums(self, outputs: _Passed, batch: Batch) -> Mapping[str, Tensor]:
        sums: dict[str, Tensor] = {}
        if "hard" in self.weights:
            sums["hard"] = self._hard(outputs.logits, batch)
        if "soft" in self.weights:
            sums["soft"] = self.task.soft_loss(
                outputs.logits, outputs.taught, batch, self.temperature
            )
        if outputs.traces is not None:
            sums |= self._inner(*outputs.traces, batch)
        return sums

    def _hard(self, logits: Tensor, batch: Batch) -> Tensor:
        if batch.labelled is None:
            return self.task.loss(logits, batch)
        if not batch.labelled.any():
            return 0.0 * logits.float().sum()
        return self.task.loss(logits[batch.places(self.task.level)], batch.answered())

    def _inner(self, mine: Trace, theirs: Trace, batch: Batch) -> dict[str, Tensor]:
        inner, sums = self.inner, {}
        sequences = Sequences(batch.lengths.tolist(), "unpadded", batch.device)
        if inner.hidden:
            losses = [
                hidden_loss(mine.hidden[s], theirs.hidden[t], project)
                for (s, t), project in zip(inner.hidden, self.projections, strict=True)
            ]
            sums["hidden"] = torch.stack(losses).mean()
        if inner.attention:
            losses = [
                attention_loss(mine.heads[s], theirs.heads[t], sequences)
                for s, t in inner.attention
            ]
            sums["attention"] = torch.stack(losses).mean()
        if inner.relation is not None:
            student, teacher = inner.relation
            sums["relation"] = relation_loss(
                mine.heads[student], theirs.heads[teacher], inner.heads, sequences
            )
        return sums
