"""One optimizer step over a window of micro-batches.

    L = Σ_b Σ_terms ℓ / Σ_b terms  (+ Σ_parts penalty, once)

The number of terms of the whole window, over all ranks, is known before the first backward pass,
so that accumulating k micro-batches equals one batch of all their rows, ragged windows included.
A penalty depends on the weights alone: every rank adds it to the gradients that they share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import AdamW

from bertft.data.batch import Batch
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
    """

    loss: float
    penalty: float
    gradient_norm: float
    applied: bool
    rescaled: bool = False


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
        ranks: Ranks = ALONE,
    ) -> None:
        self.ranks = ranks
        self.runner, self.task, self.parts = runner, task, list(parts)
        self.optimizer, self.precision, self.clip = optimizer, precision, clip
        self.scaler = GradScaler(precision.device.type, enabled=precision.scales)
        self.parameters: list[nn.Parameter] = [
            parameter for group in optimizer.param_groups for parameter in group["params"]
        ]

    def gradients(
        self, batches: Sequence[Batch], smaller: Smaller = lambda: None
    ) -> tuple[Tensor, Tensor | None]:
        """Leave (scaled) gradients on the parameters; the window's loss and the parts' penalty.

        ``smaller``: the same rows in smaller batches, for a pass that ran out of memory.
        """
        terms = max(1, self.ranks.sum(sum(self.task.terms(batch) for batch in batches)))
        total = retried(
            lambda rows: self._accumulate(rows, terms), batches, smaller,
            lambda: self.optimizer.zero_grad(set_to_none=True),
        )  # fmt: skip
        total = self.ranks.add(self.parameters, total)
        penalties = [penalty for part in self.parts if (penalty := part.loss()) is not None]
        if not penalties:
            return total, None
        penalty = torch.stack(penalties).sum()
        self.scaler.scale(penalty).backward()
        return total, penalty.detach()

    def _accumulate(self, batches: Sequence[Batch], terms: int) -> Tensor:
        total = torch.zeros((), device=self.precision.device)
        for batch in batches:
            moved = batch.to(self.precision.device)
            with self.precision.context():
                logits = self.runner(moved)
            loss = self.task.loss(logits, moved) / terms
            self.scaler.scale(loss).backward()
            total = total + loss.detach()
        return total

    def __call__(
        self, batches: Sequence[Batch], step: int, total: int, smaller: Smaller = lambda: None
    ) -> Outcome:
        """Take step number ``step`` (from 1) of ``total``; rates are set by the caller."""
        loss, penalty = self.gradients(batches, smaller)
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
        return Outcome(float(loss), extra, float(norm), finite, overflow)
