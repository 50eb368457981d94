"""One optimizer step over the micro-batches of a step batch.

    L = Σ_micro-batches Σ_terms ℓ / Σ_micro-batches terms  (+ Σ_components penalty, once)

The terms of the whole step batch, over all processes, are counted before the first backward pass.
Accumulating k micro-batches therefore equals one batch of all their rows, even if the micro-batches
differ in size. A penalty depends on the weights alone, so every process adds its gradient after the
gradients are summed over the processes. A component may replace the task loss by an objective of
several losses, each with its own terms.

The learning rate η_t = peak · lr_lambda(t) follows a ``Schedule``.

A pass that runs out of memory is repeated in smaller micro-batches: ``retry_on_oom`` in training,
``split_on_oom`` in evaluation.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from bertft.config.trainer import step_at
from bertft.data.batch import (
    Batch,
    BatchSeed,
    LengthGroupedSampler,
    collate,
    split_into_micro_batches,
)
from bertft.data.features import FeatureTable
from bertft.methods.component import MethodComponent, Objective, TaskObjective
from bertft.models.compilation import eager
from bertft.models.embedding_gradient import keep_embedding_gradients
from bertft.models.precision import Precision
from bertft.models.runner import EncoderRunner
from bertft.tasks.task import BaseTask
from bertft.training.distributed import SINGLE_PROCESS, DistributedContext
from bertft.training.weight_average import WeightAverage

__all__ = [
    "Schedule",
    "StepBatch",
    "StepResult",
    "TrainStep",
    "build_step_batch",
    "lr_lambda",
    "retry_on_oom",
    "set_learning_rates",
    "split_on_oom",
    "step_indices",
]

MakeSmallerBatches = Callable[[], Sequence[Batch] | None]


@dataclass(frozen=True)
class StepResult:
    """The values of one step.

    Attributes:
        loss: weighted sum of the mean losses, without the penalty.
        gradient_norm: norm before clipping.
        applied: False if loss or gradient was not finite; the weights are unchanged then.
        loss_scale_reduced: the gradient overflowed in fp16 and the loss scale was lowered.
        losses: the mean losses by name, if there are several.
        device_metrics: metrics of the components, computed before the optimizer step.
    """

    loss: float
    penalty: float
    gradient_norm: float
    applied: bool
    loss_scale_reduced: bool = False
    losses: dict[str, float] = field(default_factory=dict)
    device_metrics: dict[str, float] = field(default_factory=dict)


class StepLosses(NamedTuple):
    """The losses of a step as detached scalars: ``total`` is the weighted sum of ``means``."""

    total: Tensor
    penalty: Tensor | None
    means: dict[str, Tensor]


class TrainStep:
    """``train_step(batches, step, total_steps)`` takes one optimizer step.

    A step runs forward and backward passes over the micro-batches, sums the gradients over the
    processes, clips them, calls the hooks of the components and updates the weights. With
    ``average_decay``, ``average`` follows the weights.
    """

    def __init__(
        self,
        runner: EncoderRunner,
        task: BaseTask,
        components: Sequence[MethodComponent],
        optimizer: Optimizer,
        precision: Precision,
        max_grad_norm: float | None,
        distributed: DistributedContext = SINGLE_PROCESS,
        average_decay: float | None = None,
    ) -> None:
        self.runner, self.task, self.components = runner, task, list(components)
        self.optimizer, self.precision, self.max_grad_norm = optimizer, precision, max_grad_norm
        self.distributed = distributed
        objectives = [component.objective(task) for component in self.components]
        self.objective: Objective[Any] = next(filter(None, objectives), TaskObjective(task))
        self.parameters: list[nn.Parameter] = [
            parameter for group in optimizer.param_groups for parameter in group["params"]
        ]
        self.average: WeightAverage | None = None
        if average_decay is not None:
            names = [name for group in optimizer.param_groups for name in group["param_names"]]
            parameters = dict(zip(names, self.parameters, strict=True))
            self.average = WeightAverage(parameters, average_decay)
        # Components and optimizers of plugins may add to rows of a gradient that no token has.
        packages = {type(user).__module__.split(".")[0] for user in (optimizer, *self.components)}
        if distributed.world_size == 1 and packages <= {"torch", "bertft"}:
            keep_embedding_gradients(runner.model)
        self.scaler = GradScaler(precision.device.type, enabled=precision.uses_loss_scaling)
        # The first scaled tensor sets the scaler's device. A first shard without rows has none.
        self.scaler.scale(torch.zeros((), device=precision.device))

    def __call__(
        self,
        batches: Sequence[Batch],
        step: int,
        total_steps: int,
        make_smaller: MakeSmallerBatches = lambda: None,
    ) -> StepResult:
        """Take ``step`` (from 1) of ``total_steps`` with the optimizer's learning rates.

        Args:
            batches: this process's micro-batches.
            make_smaller: called if a pass runs out of memory; returns the same rows in smaller
                micro-batches, or None if that is not possible.
        """
        self.objective.begin_step(step, total_steps)
        loss, penalty, loss_means = self.compute_gradients(batches, make_smaller)
        self.scaler.unscale_(self.optimizer)
        gradients = [tensor.grad for tensor in self.parameters if tensor.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        named_losses = loss_means if len(loss_means) > 1 else {}
        penalty_or_zero = torch.zeros_like(loss) if penalty is None else penalty
        device_metrics = {
            name: value
            for component in self.components
            for name, value in component.device_metrics().items()
        }
        # The only synchronization with the device. All values are copied at once, before the
        # optimizer step, which the device computes while the next batch is prepared.
        values = torch.stack(
            [loss, penalty_or_zero, norm, *named_losses.values(), *device_metrics.values()]
        ).tolist()
        loss_value, penalty_value, gradient_norm, *other_values = values
        is_finite = math.isfinite(gradient_norm) and math.isfinite(loss_value)
        if is_finite:
            self._apply_gradients(norm, step, total_steps)
        # An fp16 gradient may overflow because of a loss scale above 1: the scaler lowers it.
        loss_scale_reduced = False
        if self.precision.uses_loss_scaling:
            if not is_finite and math.isfinite(loss_value):
                loss_scale_reduced = self.scaler.get_scale() > 1
            self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return StepResult(
            loss_value,
            penalty_value,
            gradient_norm,
            is_finite,
            loss_scale_reduced,
            dict(zip(named_losses, other_values, strict=False)),
            dict(zip(device_metrics, other_values[len(named_losses) :], strict=True)),
        )

    def averaged_weights(self) -> AbstractContextManager[None]:
        """A context in which the model has the averaged weights, if there are any."""
        return nullcontext() if self.average is None else self.average.in_use()

    @property
    def has_label_loss(self) -> bool:
        """Whether the objective has a loss on the labels."""
        return self.objective.label_loss in self.objective.weights

    def label_loss(self, result: StepResult) -> float:
        """The mean loss on the labels of the step just taken; NaN if it had none."""
        name, weights = self.objective.label_loss, self.objective.weights
        if name is None or name not in weights:
            return math.nan
        return result.losses[name] if len(weights) > 1 else result.loss / weights[name]

    def compute_gradients(
        self, batches: Sequence[Batch], make_smaller: MakeSmallerBatches = lambda: None
    ) -> StepLosses:
        """Set the (scaled) gradients of the parameters; return the losses."""
        term_counts = self._count_terms(batches, self.distributed)
        means = retry_on_oom(
            lambda micro_batches: self._accumulate(micro_batches, term_counts),
            batches,
            make_smaller,
            lambda: self.optimizer.zero_grad(set_to_none=True),
        )
        means = self.distributed.all_reduce_gradients(self.parameters, means)
        loss, loss_means = self._weighted_sum(means), dict(zip(term_counts, means, strict=True))
        extra_losses = [component.extra_loss() for component in self.components]
        penalties = [extra_loss for extra_loss in extra_losses if extra_loss is not None]
        if not penalties:
            return StepLosses(loss, None, loss_means)
        penalty = torch.stack(penalties).sum()
        self.scaler.scale(penalty).backward()
        return StepLosses(loss, penalty.detach(), loss_means)

    def backward_without_dropout(self, batches: Sequence[Batch]) -> None:
        """Run forward and backward passes over ``batches`` in this process, without an update.

        Components record activations and gradients. Losses are not scaled, because an overflow in
        fp16 would need another attempt with a lower scale.
        """
        self.objective.begin_step(1, 1)
        term_counts = self._count_terms(batches, SINGLE_PROCESS)
        self.optimizer.zero_grad(set_to_none=True)  # of an attempt that ran out of memory
        self.runner.model.eval()
        try:
            with eager() if self.runner.compiled else nullcontext():
                for batch in batches:
                    self._weighted_sum(self._loss_shares(batch, term_counts)).backward()
        finally:
            self.runner.model.train()
            self.optimizer.zero_grad(set_to_none=True)

    def _accumulate(self, batches: Sequence[Batch], term_counts: Mapping[str, int]) -> Tensor:
        """Run the backward passes; return this process's share of each mean loss, [losses]."""
        loss_means = torch.zeros(len(term_counts), device=self.precision.device)
        for batch in batches:
            loss_shares = self._loss_shares(batch, term_counts)
            self.scaler.scale(self._weighted_sum(loss_shares)).backward()
            loss_means = loss_means + loss_shares.detach()
        return loss_means

    def _loss_shares(self, batch: Batch, term_counts: Mapping[str, int]) -> Tensor:
        """The sum of each loss over the terms of ``batch`` / its count in ``term_counts``."""
        device_batch = batch.to(self.precision.device)
        with self.precision.autocast():
            outputs = self.objective.forward(self.runner, device_batch)
        sums = self.objective.loss_sums(outputs, device_batch)
        return torch.stack([sums[name] / count for name, count in term_counts.items()])

    def _weighted_sum(self, losses: Tensor) -> Tensor:
        weights = self.objective.weights.values()
        weighted = [weight * loss for weight, loss in zip(weights, losses, strict=True)]
        return torch.stack(weighted).sum()

    def _count_terms(
        self, batches: Sequence[Batch], distributed: DistributedContext
    ) -> dict[str, int]:
        """Loss → number of its terms in ``batches``, over all processes, at least 1."""
        counts = dict.fromkeys(self.objective.weights, 0)
        for batch in batches:
            for name, count in self.objective.term_counts(batch).items():
                counts[name] += count
        return {name: max(1, distributed.all_reduce_sum(count)) for name, count in counts.items()}

    def _apply_gradients(self, norm: Tensor, step: int, total_steps: int) -> None:
        if self.max_grad_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.max_grad_norm, norm)
        for component in self.components:
            component.before_step(step, total_steps)
        self.scaler.step(self.optimizer)
        for component in self.components:
            component.after_step(step, total_steps, self.optimizer)
        if self.average is not None:
            self.average.update()


@dataclass(frozen=True)
class Schedule:
    """Number of optimizer steps and shape of the learning rate.

    The learning rate rises linearly over the first ``warmup_fraction`` of ``total_steps`` and then
    follows ``decay``: linear, cosine or constant.
    """

    total_steps: int
    warmup_fraction: float
    decay: str

    def lr_lambda(self, step: int) -> float:
        """The factor on the peak learning rate in ``step`` (from 1)."""
        return lr_lambda(step, self.total_steps, self.warmup_fraction, self.decay)

    def evaluation_steps(self, evaluations: int) -> frozenset[int]:
        """The steps of ``evaluations`` evaluations at equal distances, the last step included."""
        return frozenset(
            step_at(n / evaluations, self.total_steps) for n in range(1, evaluations + 1)
        )

    def stop_step(self, stop_at: float | None) -> int | None:
        """The step of ``trainer.stop_at``; None if training does not stop before its end."""
        if stop_at is None:
            return None
        step = step_at(stop_at, self.total_steps) if stop_at < 1 else int(stop_at)
        return step if step < self.total_steps else None


def lr_lambda(step: int, total_steps: int, warmup_fraction: float, decay: str) -> float:
    """The factor on the peak learning rate in ``step`` (from 1) of ``total_steps``, in (0, 1].

    The first step after the warmup runs at the peak, and the factor of the last step is above 0.
    """
    warmup_steps = round(warmup_fraction * total_steps)
    if step <= warmup_steps:
        return step / warmup_steps
    if decay == "constant":
        return 1.0
    progress = (step - 1 - warmup_steps) / max(1, total_steps - warmup_steps)
    if decay == "linear":
        return 1.0 - progress
    if decay == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    raise ValueError(f"unknown schedule {decay!r}")


def set_learning_rates(optimizer: Optimizer, factor: float) -> dict[str, float]:
    """Set the learning rate of every group to its peak times ``factor``.

    Returns:
        component → learning rate. The groups of one component share it.
    """
    learning_rates: dict[str, float] = {}
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
        learning_rates[group["name"].split("/")[0]] = group["lr"]
    return learning_rates


@dataclass(frozen=True)
class StepBatch:
    """The rows of one optimizer step.

    ``indices``: features of the step in all processes. ``micro_batches``: the shard of this
    process.
    """

    epoch: int
    indices: np.ndarray
    micro_batches: list[Batch]

    def __len__(self) -> int:
        return len(self.indices)


def step_indices(
    sampler: LengthGroupedSampler, completed_steps: int, total_steps: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Epoch (from 0) and features of the steps ``completed_steps + 1`` to ``total_steps``."""
    epoch, start = divmod(completed_steps, sampler.steps_per_epoch)
    while completed_steps < total_steps:
        batches = sampler.epoch_batches(epoch)
        for number in range(start, min(len(batches), start + total_steps - completed_steps)):
            yield epoch, batches[number]
            completed_steps += 1
        epoch, start = epoch + 1, 0


def build_step_batch(
    table: FeatureTable,
    epoch: int,
    indices: np.ndarray,
    micro_batch_size: int,
    task: BaseTask,
    seed: int,
    distributed: DistributedContext,
) -> StepBatch:
    """Collate the features ``indices`` of ``table``, sorted by length within a micro-batch.

    Random choices of the task, such as masked tokens, depend on ``seed``, ``epoch`` and row alone.
    """
    batch_seed, lengths, micro_batches = BatchSeed(seed, epoch), np.asarray(table.lengths), []
    for rows in split_into_micro_batches(indices[distributed.shard], micro_batch_size):
        rows_by_length = rows[np.argsort(lengths[rows], kind="stable")]
        batch = collate(table, rows_by_length, task.label_columns)
        micro_batches.append(task.train_transform(batch, batch_seed))
    return StepBatch(epoch, indices, micro_batches)


Value = TypeVar("Value")


def retry_on_oom(
    run_passes: Callable[[Sequence[Batch]], Value],
    batches: Sequence[Batch],
    make_smaller: MakeSmallerBatches,
    reset: Callable[[], None],
) -> Value:
    """Return ``run_passes(batches)``; if it runs out of memory, retry with smaller batches.

    Args:
        make_smaller: returns the same rows in smaller batches, or None if each has one row already.
        reset: called before each retry; undoes the effects of the failed passes.

    Raises:
        torch.OutOfMemoryError: ``make_smaller`` returned None.
    """
    while True:
        oom_error: torch.OutOfMemoryError | None = None
        try:
            return run_passes(batches)
        except torch.OutOfMemoryError as error:
            oom_error = error.with_traceback(None)  # the traceback keeps the activations alive
        reset()
        smaller_batches = make_smaller()
        if smaller_batches is None:
            raise oom_error
        batches = smaller_batches
        _free_memory()


def split_on_oom(
    run_batch: Callable[[Batch], Value], batch: Batch, rebuild: Callable[[np.ndarray], Batch]
) -> Iterator[Value]:
    """Yield ``run_batch(batch)``; if it runs out of memory, the results for the halves, in order.

    Args:
        rebuild: makes a batch from feature indices.

    Raises:
        torch.OutOfMemoryError: a single row does not fit.
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
