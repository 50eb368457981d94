"""One optimizer step over a window of micro-batches.

    L = Σ_b Σ_terms ℓ / Σ_b terms  (+ Σ_parts penalty, once)

The number of terms of the whole window, over all ranks, is known before the first backward pass,
so that accumulating k micro-batches equals one batch of all their rows, ragged windows included.
A penalty depends on the weights alone: every rank adds it to the gradients that they share. A part
may put an objective of several losses, each with terms of its own, in the task loss's place.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from bertft.data.batch import (
    Batch,
    BatchSeed,
    LengthGroupedSampler,
    collate,
    split_into_micro_batches,
)
from bertft.data.features import FeatureTable
from bertft.methods.component import MethodComponent, Objective, TaskObjective
from bertft.models.precision import Precision
from bertft.models.runner import EncoderRunner
from bertft.tasks.task import BaseTask
from bertft.training.distributed import SINGLE_PROCESS, DistributedContext

__all__ = [
    "StepBatch",
    "StepResult",
    "TrainStep",
    "build_step_batch",
    "retry_on_oom",
    "split_on_oom",
    "step_indices",
]


@dataclass(frozen=True)
class StepBatch:
    """``indices``: features of the whole step; ``micro_batches``: this rank's share of them."""

    epoch: int
    indices: np.ndarray
    micro_batches: list[Batch]

    def __len__(self) -> int:
        return len(self.indices)


def build_step_batch(
    table: FeatureTable,
    epoch: int,
    indices: np.ndarray,
    micro_batch_size: int,
    task: BaseTask,
    seed: int,
    distributed: DistributedContext,
) -> StepBatch:
    """The window of the features ``indices``, with at most ``micro_batch_size`` rows a forward
    pass.
    """
    draw = BatchSeed(seed, epoch)
    lengths = np.asarray(table.lengths)
    batches = [
        collate(
            table, micro_batch[np.argsort(lengths[micro_batch], kind="stable")], task.label_columns
        )
        for micro_batch in split_into_micro_batches(indices[distributed.shard], micro_batch_size)
    ]
    return StepBatch(epoch, indices, [task.train_transform(batch, draw) for batch in batches])


def step_indices(
    sampler: LengthGroupedSampler, completed_steps: int, total_steps: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Epoch, from 0, and features of each step after the first ``completed_steps``, up to
    ``total_steps``.
    """
    epoch, first_batch = divmod(completed_steps, sampler.steps_per_epoch)
    while completed_steps < total_steps:
        batches = sampler.epoch_batches(epoch)
        for number in range(
            first_batch, min(len(batches), first_batch + total_steps - completed_steps)
        ):
            yield epoch, batches[number]
            completed_steps += 1
        epoch, first_batch = epoch + 1, 0


Value = TypeVar("Value")
RebuildBatch = Callable[[np.ndarray], Batch]


def retry_on_oom(
    run_passes: Callable[[Sequence[Batch]], Value],
    batches: Sequence[Batch],
    make_smaller: Callable[[], Sequence[Batch] | None],
    reset: Callable[[], None],
) -> Value:
    """``run_passes(batches)``; after OutOfMemoryError ``reset()`` and again with
    ``make_smaller()``.

    ``make_smaller`` gives the same rows in halved batches, None where a pass has one row already:
    then the error stands.
    """
    while True:
        oom_error: torch.OutOfMemoryError | None = None
        try:
            return run_passes(batches)
        except torch.OutOfMemoryError as error:
            oom_error = error.with_traceback(None)  # its frames hold the activations of the pass
        reset()
        smaller_batches = make_smaller()
        if smaller_batches is None:
            raise oom_error
        batches = smaller_batches
        _free_memory()


def split_on_oom(
    run_batch: Callable[[Batch], Value], batch: Batch, rebuild: RebuildBatch
) -> Iterator[Value]:
    """``run_batch`` on a batch; after OutOfMemoryError on its two halves, made by ``rebuild``, and
    so on.

    The rows stay in order. Where one row is too much the error stands.
    """
    oom_error: torch.OutOfMemoryError | None = None
    try:
        result = run_batch(batch)
    except torch.OutOfMemoryError as error:
        oom_error = error.with_traceback(None)
    if oom_error is None:
        yield result
        return
    if len(batch) <= 1:
        raise oom_error
    _free_memory()
    middle = len(batch) // 2
    for indices in (batch.feature_indices[:middle], batch.feature_indices[middle:]):
        yield from split_on_oom(run_batch, rebuild(indices), rebuild)


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


MakeSmallerBatches = Callable[[], Sequence[Batch] | None]


@dataclass(frozen=True)
class StepResult:
    """``applied`` is False where loss or gradient were not finite; nothing has moved then.

    ``loss_scale_reduced``: fp16's scaler met an overflow of its own making and lowered its scale.
    ``losses``: the means that ``loss`` is the weighted sum of, where there are several.
    ``device_metrics``: those of the parts, as they were before the weights moved.
    """

    loss: float
    penalty: float
    gradient_norm: float
    applied: bool
    loss_scale_reduced: bool = False
    losses: dict[str, float] = field(default_factory=dict)
    device_metrics: dict[str, float] = field(default_factory=dict)


class TrainStep:
    """``stepper(batches, step, total)``: forward, backward, clip, parts, optimizer."""

    def __init__(
        self,
        runner: EncoderRunner,
        task: BaseTask,
        components: Sequence[MethodComponent],
        optimizer: Optimizer,
        precision: Precision,
        max_grad_norm: float | None,
        distributed: DistributedContext = SINGLE_PROCESS,
    ) -> None:
        self.distributed = distributed
        self.runner, self.task, self.components = runner, task, list(components)
        self.optimizer, self.precision, self.max_grad_norm = optimizer, precision, max_grad_norm
        objectives = [
            objective
            for component in self.components
            if (objective := component.objective(task)) is not None
        ]
        self.objective: Objective[Any] = objectives[0] if objectives else TaskObjective(task)
        self._loss_means: dict[str, Tensor] = {}
        self.scaler = GradScaler(precision.device.type, enabled=precision.uses_loss_scaling)
        # It learns its device from what it scales, and a rank's first share may have no rows.
        self.scaler.scale(torch.zeros((), device=precision.device))
        self.parameters: list[nn.Parameter] = [
            parameter for group in optimizer.param_groups for parameter in group["params"]
        ]

    def compute_gradients(
        self, batches: Sequence[Batch], make_smaller: MakeSmallerBatches = lambda: None
    ) -> tuple[Tensor, Tensor | None]:
        """Leave (scaled) gradients on the parameters; the window's loss and the parts' penalty.

        ``make_smaller``: the same rows in smaller batches, for a pass that ran out of memory.
        """
        term_counts = self._count_terms(batches)
        loss_means = retry_on_oom(
            lambda rows: self._accumulate(rows, term_counts),
            batches,
            make_smaller,
            lambda: self.optimizer.zero_grad(set_to_none=True),
        )
        loss_means = self.distributed.all_reduce_gradients(self.parameters, loss_means)
        self._loss_means = dict(zip(self.objective.weights, loss_means, strict=True))
        total = self._weighted_sum(loss_means)
        penalties = [
            penalty
            for component in self.components
            if (penalty := component.extra_loss()) is not None
        ]
        if not penalties:
            return total, None
        penalty = torch.stack(penalties).sum()
        self.scaler.scale(penalty).backward()
        return total, penalty.detach()

    def _accumulate(self, batches: Sequence[Batch], term_counts: Mapping[str, int]) -> Tensor:
        """The backward passes; this rank's share of each loss's mean, [losses]."""
        loss_means = torch.zeros(len(term_counts), device=self.precision.device)
        for batch in batches:
            device_batch = batch.to(self.precision.device)
            with self.precision.autocast():
                outputs = self.objective.forward(self.runner, device_batch)
            sums = self.objective.loss_sums(outputs, device_batch)
            loss_shares = torch.stack([sums[name] / count for name, count in term_counts.items()])
            self.scaler.scale(self._weighted_sum(loss_shares)).backward()
            loss_means = loss_means + loss_shares.detach()
        return loss_means

    def _weighted_sum(self, losses: Tensor) -> Tensor:
        weights = self.objective.weights.values()
        return torch.stack(
            [weight * loss for weight, loss in zip(weights, losses, strict=True)]
        ).sum()

    def _count_terms(self, batches: Sequence[Batch]) -> dict[str, int]:
        """Terms of each loss in the whole window, over all ranks; 1 where there are none."""
        counts = dict.fromkeys(self.objective.weights, 0)
        for batch in batches:
            for name, count in self.objective.term_counts(batch).items():
                counts[name] += count
        return {
            name: max(1, self.distributed.all_reduce_sum(count)) for name, count in counts.items()
        }

    def __call__(
        self,
        batches: Sequence[Batch],
        step: int,
        total_steps: int,
        make_smaller: MakeSmallerBatches = lambda: None,
    ) -> StepResult:
        """Take step number ``step`` (from 1) of ``total_steps``; rates are set by the caller."""
        loss, penalty = self.compute_gradients(batches, make_smaller)
        self.scaler.unscale_(self.optimizer)
        gradients = [tensor.grad for tensor in self.parameters if tensor.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        named_losses = self._loss_means if len(self.objective.weights) > 1 else {}
        penalty_or_zero = torch.zeros_like(loss) if penalty is None else penalty
        device_metrics = {
            name: each for part in self.components for name, each in part.device_metrics().items()
        }
        # Read in one go, and before the step: an accelerator is waited for once, and goes on with
        # the step itself while the next batch is begun.
        values = torch.stack(
            [loss, penalty_or_zero, norm, *named_losses.values(), *device_metrics.values()]
        ).tolist()
        loss_value, penalty_value, gradient_norm = values[:3]
        is_finite = math.isfinite(gradient_norm) and math.isfinite(loss_value)
        if is_finite:
            if self.max_grad_norm is not None:
                torch.nn.utils.clip_grads_with_norm_(self.parameters, self.max_grad_norm, norm)
            for component in self.components:
                component.before_step(step, total_steps)
            self.scaler.step(self.optimizer)
            for component in self.components:
                component.after_step(step, total_steps, self.optimizer)
        # In fp16 an overflow under a scale above 1 is the scaler's own doing: it backs off.
        loss_scale_reduced = False
        if not is_finite and self.precision.uses_loss_scaling and math.isfinite(loss_value):
            loss_scale_reduced = self.scaler.get_scale() > 1
        if self.precision.uses_loss_scaling:
            self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        remaining_values = iter(values[3:])
        losses = {name: next(remaining_values) for name in named_losses}
        readings = dict(zip(device_metrics, remaining_values, strict=True))
        return StepResult(
            loss_value,
            penalty_value,
            gradient_norm,
            is_finite,
            loss_scale_reduced,
            losses,
            readings,
        )
