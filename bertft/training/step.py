"""One optimizer step over a window of micro-batches.

    L = Σ_b Σ_terms ℓ / Σ_b terms  (+ Σ_parts penalty, once)

The number of terms of the whole window is known before the first backward pass, so that
accumulating k micro-batches equals one batch of all their rows, ragged windows included. A part
may put an objective of several losses, each with terms of its own, in the task loss's place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import AdamW

from bertft.data.batch import Batch
from bertft.methods.objective import Objective, TaskObjective
from bertft.methods.part import Part
from bertft.models.precision import Precision
from bertft.models.runner import EncoderRunner
from bertft.tasks.task import BaseTask

__all__ = ["Outcome", "Stepper"]


@dataclass(frozen=True)
class Outcome:
    """``applied`` is False where loss or gradient were not finite; nothing has moved then.

    ``rescaled``: fp16's scaler met an overflow of its own making and lowered its scale.
    ``losses``: the means that ``loss`` is the weighted sum of, where there are several.
    """

    loss: float
    penalty: float
    gradient_norm: float
    applied: bool
    rescaled: bool = False
    losses: dict[str, float] = field(default_factory=dict)


class Stepper:
    """``stepper(batches, step, total)``: forward, backward, clip, parts, AdamW."""

    def __init__(
        self,
        runner: EncoderRunner,
        task: BaseTask,
        parts: Sequence[Part],
        optimizer: AdamW,
        precision: Precision,
        clip: float | None,
    ) -> None:
        self.runner, self.task, self.parts = runner, task, list(parts)
        self.optimizer, self.precision, self.clip = optimizer, precision, clip
        given = [each for part in self.parts if (each := part.objective(task)) is not None]
        self.objective: Objective = given[0] if given else TaskObjective(task)
        self._losses: dict[str, Tensor] = {}
        self.scaler = GradScaler(precision.device.type, enabled=precision.scales)
        self.parameters: list[nn.Parameter] = [
            parameter for group in optimizer.param_groups for parameter in group["params"]
        ]

    def gradients(self, batches: Sequence[Batch]) -> tuple[Tensor, Tensor | None]:
        """Leave (scaled) gradients on the parameters; the window's loss and the parts' penalty."""
        terms = self._terms(batches)
        total: Tensor | None = None
        self._losses = {}
        for batch in batches:
            moved = batch.to(self.precision.device)
            with self.precision.context():
                outputs = self.objective.forward(self.runner, moved)
            loss: Tensor | None = None
            for name, each in self.objective.sums(outputs, moved).items():
                mean = each / terms[name]
                seen = mean.detach()
                self._losses[name] = self._losses[name] + seen if name in self._losses else seen
                weighted = self.objective.weights[name] * mean
                loss = weighted if loss is None else loss + weighted
            assert loss is not None, "an objective has at least one loss"
            self.scaler.scale(loss).backward()
            total = loss.detach() if total is None else total + loss.detach()
        assert total is not None, "a window holds at least one batch"
        penalties = [penalty for part in self.parts if (penalty := part.loss()) is not None]
        if not penalties:
            return total, None
        penalty = torch.stack(penalties).sum()
        self.scaler.scale(penalty).backward()
        return total, penalty.detach()

    def _terms(self, batches: Sequence[Batch]) -> dict[str, int]:
        """Terms of each loss in the whole window; 1 where there are none."""
        counts: dict[str, int] = {}
        for batch in batches:
            for name, count in self.objective.terms(batch).items():
                counts[name] = counts.get(name, 0) + count
        return {name: max(1, count) for name, count in counts.items()}

    def __call__(self, batches: Sequence[Batch], step: int, total: int) -> Outcome:
        """Take step number ``step`` (from 1) of ``total``; rates are set by the caller."""
        loss, penalty = self.gradients(batches)
        scale = self.scaler.get_scale()
        self.scaler.unscale_(self.optimizer)
        gradients = [each.grad for each in self.parameters if each.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        finite = bool(torch.isfinite(norm)) and bool(torch.isfinite(loss))
        if finite:
            if self.clip is not None:
                torch.nn.utils.clip_grads_with_norm_(self.parameters, self.clip, norm)
            for part in self.parts:
                part.before_step(step, total)
            self.scaler.step(self.optimizer)
            for part in self.parts:
                part.after_step(step, total, self.optimizer)
        # In fp16 an overflow under a scale above 1 is the scaler's own doing: it backs off.
        overflow = not finite and self.precision.scales and bool(torch.isfinite(loss)) and scale > 1
        if self.precision.scales:
            self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        extra = 0.0 if penalty is None else float(penalty)
        several = self._losses if len(self.objective.weights) > 1 else {}
        losses = {name: float(each) for name, each in several.items()}
        return Outcome(float(loss), extra, float(norm), finite, overflow, losses)
