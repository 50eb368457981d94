"""One optimizer step over a window of micro-batches.

    L = Σ_b Σ_terms ℓ / Σ_b terms  (+ Σ_parts penalty, once)

The number of terms of the whole window, over all ranks, is known before the first backward pass,
so that accumulating k micro-batches equals one batch of all their rows, ragged windows included.
A penalty depends on the weights alone: every rank adds it to the gradients that they share. A part
may put an objective of several losses, each with terms of its own, in the task loss's place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from bertft.data.batch import Batch
from bertft.methods.objective import Objective, TaskObjective
from bertft.methods.part import Part
from bertft.models.precision import Precision
from bertft.models.runner import EncoderRunner
from bertft.tasks.task import BaseTask
from bertft.training.out_of_memory import retried
from bertft.training.ranks import ALONE, Ranks

__all__ = ["Outcome", "Stepper"]

Smaller = Callable[[], Sequence[Batch] | None]


@dataclass(frozen=True)
class Outcome:
    """``applied`` is False where loss or gradient were not finite; nothing has moved then.

    ``rescaled``: fp16's scaler met an overflow of its own making and lowered its scale.
    ``losses``: the means that ``loss`` is the weighted sum of, where there are several.
    ``readings``: those of the parts, as they were before the weights moved.
    """

    loss: float
    penalty: float
    gradient_norm: float
    applied: bool
    rescaled: bool = False
    losses: dict[str, float] = field(default_factory=dict)
    readings: dict[str, float] = field(default_factory=dict)


class Stepper:
    """``stepper(batches, step, total)``: forward, backward, clip, parts, optimizer."""

    def __init__(
        self,
        runner: EncoderRunner,
        task: BaseTask,
        parts: Sequence[Part],
        optimizer: Optimizer,
        precision: Precision,
        clip: float | None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.ranks = ranks
        self.runner, self.task, self.parts = runner, task, list(parts)
        self.optimizer, self.precision, self.clip = optimizer, precision, clip
        given = [each for part in self.parts if (each := part.objective(task)) is not None]
        self.objective: Objective = given[0] if given else TaskObjective(task)
        self._losses: dict[str, Tensor] = {}
        self.scaler = GradScaler(precision.device.type, enabled=precision.scales)
        # It learns its device from what it scales, and a rank's first share may have no rows.
        self.scaler.scale(torch.zeros((), device=precision.device))
        self.parameters: list[nn.Parameter] = [
            parameter for group in optimizer.param_groups for parameter in group["params"]
        ]

    def gradients(
        self, batches: Sequence[Batch], smaller: Smaller = lambda: None
    ) -> tuple[Tensor, Tensor | None]:
        """Leave (scaled) gradients on the parameters; the window's loss and the parts' penalty.

        ``smaller``: the same rows in smaller batches, for a pass that ran out of memory.
        """
        terms = self._terms(batches)
        means = retried(
            lambda rows: self._accumulate(rows, terms), batches, smaller,
            lambda: self.optimizer.zero_grad(set_to_none=True),
        )  # fmt: skip
        means = self.ranks.add(self.parameters, means)
        self._losses = dict(zip(self.objective.weights, means, strict=True))
        total = self._weighted(means)
        penalties = [penalty for part in self.parts if (penalty := part.loss()) is not None]
        if not penalties:
            return total, None
        penalty = torch.stack(penalties).sum()
        self.scaler.scale(penalty).backward()
        return total, penalty.detach()

    def _accumulate(self, batches: Sequence[Batch], terms: Mapping[str, int]) -> Tensor:
        """The backward passes; this rank's share of each loss's mean, [losses]."""
        means = torch.zeros(len(terms), device=self.precision.device)
        for batch in batches:
            moved = batch.to(self.precision.device)
            with self.precision.context():
                outputs = self.objective.forward(self.runner, moved)
            sums = self.objective.sums(outputs, moved)
            shares = torch.stack([sums[name] / count for name, count in terms.items()])
            self.scaler.scale(self._weighted(shares)).backward()
            means = means + shares.detach()
        return means

    def _weighted(self, losses: Tensor) -> Tensor:
        weights = self.objective.weights.values()
        return torch.stack([w * each for w, each in zip(weights, losses, strict=True)]).sum()

    def _terms(self, batches: Sequence[Batch]) -> dict[str, int]:
        """Terms of each loss in the whole window, over all ranks; 1 where there are none."""
        counts = dict.fromkeys(self.objective.weights, 0)
        for batch in batches:
            for name, count in self.objective.terms(batch).items():
                counts[name] += count
        return {name: max(1, self.ranks.sum(count)) for name, count in counts.items()}

    def __call__(
        self, batches: Sequence[Batch], step: int, total: int, smaller: Smaller = lambda: None
    ) -> Outcome:
        """Take step number ``step`` (from 1) of ``total``; rates are set by the caller."""
        loss, penalty = self.gradients(batches, smaller)
        self.scaler.unscale_(self.optimizer)
        gradients = [each.grad for each in self.parameters if each.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        several = self._losses if len(self.objective.weights) > 1 else {}
        extra = torch.zeros_like(loss) if penalty is None else penalty
        told = {name: each for part in self.parts for name, each in part.readings().items()}
        # Read in one go, and before the step: an accelerator is waited for once, and goes on with
        # the step itself while the next batch is begun.
        found = torch.stack([loss, extra, norm, *several.values(), *told.values()]).tolist()
        read, added, length = found[:3]
        finite = math.isfinite(length) and math.isfinite(read)
        if finite:
            if self.clip is not None:
                torch.nn.utils.clip_grads_with_norm_(self.parameters, self.clip, norm)
            for part in self.parts:
                part.before_step(step, total)
            self.scaler.step(self.optimizer)
            for part in self.parts:
                part.after_step(step, total, self.optimizer)
        # In fp16 an overflow under a scale above 1 is the scaler's own doing: it backs off.
        overflow = False
        if not finite and self.precision.scales and math.isfinite(read):
            overflow = self.scaler.get_scale() > 1
        if self.precision.scales:
            self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        further = iter(found[3:])
        losses = {name: next(further) for name in several}
        readings = dict(zip(told, further, strict=True))
        return Outcome(read, added, length, finite, overflow, losses, readings)
