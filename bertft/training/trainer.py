"""The training loop: a generator of events. Saving, printing and plotting listen to it.

    for event in loop.run():
        for listener in listeners:
            listener(event)

The order of rows is a function of (seed, epoch) alone, and ``TrainerState`` says how far it went,
so a loop that is rebuilt with a saved progress goes on exactly where the other one stopped. Several
ranks run the same loop over shares of the same batches, and what it yields is the same on each.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bertft.config.trainer import TrainerConfig
from bertft.data.batch import Batch, LengthGroupedSampler, prefetch
from bertft.data.features import FeatureTable
from bertft.errors import NonFiniteError, UsageError
from bertft.training import optim as optimizers
from bertft.training.distributed import SINGLE_PROCESS, DistributedContext
from bertft.training.evaluate import evaluate
from bertft.training.events import (
    Checkpointed,
    Evaluated,
    Event,
    Finished,
    Interrupted,
    MicroBatchReduced,
    Started,
    StepCompleted,
    StepSkipped,
)
from bertft.training.optim import lr_lambda
from bertft.training.signals import StopRequest
from bertft.training.step import StepBatch, TrainStep, build_step_batch, step_indices
from bertft.utils.messages import format_list

__all__ = ["Trainer", "TrainerState"]


@dataclass
class TrainerState:
    """How far the run is: what a resume needs beside tensors. Steps are optimizer steps taken."""

    step: int = 0
    best: float | None = None
    best_step: int | None = None
    best_metrics: dict[str, float] | None = None
    stale: int = 0  # evaluations since the best one
    bad_in_a_row: int = 0
    skipped: int = 0
    rescaled: int = 0
    halved: int = 0  # times that memory did not suffice for a micro-batch
    not_finite: int = 0  # evaluations with answers that are not finite
    start: dict[str, float] | None = None  # Σ |weight| of each part, before the first step
    gradient: float | None = None  # the largest norm that a step was taken with
    rows: int = 0
    tokens: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0

    @property
    def applied_steps(self) -> int:
        """Steps that changed the weights."""
        return self.step - self.skipped - self.rescaled

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """ValueError where ``state`` is none that ``state_dict`` gave."""
        current = asdict(self)
        for name, value in state.items():
            is_plain = value is None or isinstance(value, (bool, int, float, dict))
            is_count = isinstance(current.get(name), int)  # floats, and what may be None, are free
            if name not in current or not is_plain or (is_count and not _is_count(value)):
                raise ValueError(f"{name} = {value!r} is no progress")
            setattr(self, name, value)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


class Trainer:
    """``total_steps`` optimizer steps over ``train_features``; ``save_checkpoint(progress, best)``
    writes a checkpoint.

    ``best_outputs``: what the task's metrics of the best evaluation were made of, where
    ``keep_outputs`` says so; None if the best one was made before this process. ``unchanged``, at
    the end: names of parts of which no weight moved.
    """

    def __init__(
        self,
        *,
        train_step: TrainStep,
        train_features: FeatureTable,
        validation_features: FeatureTable | None,
        sampler: LengthGroupedSampler,
        settings: TrainerConfig,
        total_steps: int,
        warmup_fraction: float,
        save_checkpoint: Callable[[TrainerState, bool], Path],
        stop_request: StopRequest,
        state: TrainerState | None = None,
        distributed: DistributedContext = SINGLE_PROCESS,
        keep_outputs: bool = False,
    ) -> None:
        self.keep_outputs = keep_outputs
        self.best_outputs: np.ndarray | None = None
        self.train_step, self.train_features, self.validation_features = (
            train_step,
            train_features,
            validation_features,
        )
        self.sampler, self.settings, self.total_steps, self.warmup_fraction = (
            sampler,
            settings,
            total_steps,
            warmup_fraction,
        )
        self.save_checkpoint, self.stop_request, self.distributed = (
            save_checkpoint,
            stop_request,
            distributed,
        )
        self.state = state or TrainerState()
        self.unchanged: list[str] = []
        self._last_saved_step: int | None = self.state.step if state else None

    def run(self) -> Iterator[Event]:
        """Yield the events of the rest of the run. NonFiniteError after too many bad steps."""
        state, model = self.state, self.train_step.runner.model
        yield Started(
            state.step, self.total_steps, self.sampler.steps_per_epoch, len(self.train_features)
        )
        if self._out_of_patience():  # it was stopped just as its patience ended
            yield self._finish()
            return
        if state.step == 0:
            state.start, state.gradient = self._magnitudes(), 0.0
        model.train()
        with closing(prefetch(self._step_batches(state.step))) as step_batches:
            for step_batch in step_batches:
                yield from self.run_step(step_batch)
                if state.step >= self.total_steps:
                    self._check_weights_changed()
                evaluation_due = self._evaluation_due(state.step)
                improved = False
                if evaluation_due:
                    evaluated = self._evaluate()
                    improved = evaluated.best
                    yield evaluated
                # Ranks hear a signal at different moments: they stop after the same step.
                interrupted = (
                    self.distributed.all_reduce_max(self.stop_request.signum or 0)[0] or None
                )
                if (
                    improved
                    or self._checkpoint_due(state.step, evaluation_due)
                    or interrupted is not None
                ):
                    yield self._save_checkpoint(improved)
                if interrupted is not None:
                    yield Interrupted(state.step, interrupted)
                    return
                if evaluation_due and self._out_of_patience():
                    break
        if self._last_saved_step != state.step:
            yield self._save_checkpoint(False)
        yield self._finish()

    def _step_batches(self, completed_steps: int) -> Iterator[StepBatch]:
        """The window of each optimizer step that is left."""
        device = self.train_step.precision.device
        for epoch, indices in step_indices(self.sampler, completed_steps, self.total_steps):
            step_batch = self.make_step_batch(epoch, indices)
            yield replace(
                step_batch,
                micro_batches=[batch.pin_memory(device) for batch in step_batch.micro_batches],
            )

    def make_step_batch(self, epoch: int, indices: np.ndarray) -> StepBatch:
        """The window of the features ``indices`` in an epoch, from 0."""
        task, seed = self.train_step.task, self.sampler.seed
        return build_step_batch(
            self.train_features, epoch, indices, self.micro_batch, task, seed, self.distributed
        )

    @property
    def micro_batch(self) -> int:
        """Rows a forward pass, as many as memory has sufficed for."""
        rows = self.settings.micro_batch or -(
            -self.settings.batch_size // self.distributed.world_size
        )
        return max(1, -(-rows // 2**self.state.halved))

    def _halve_micro_batch(self, step_batch: StepBatch) -> list[Batch] | None:
        """The window's batches once more, at most half as large; None if that cannot be."""
        largest = max(len(batch) for batch in step_batch.micro_batches)
        while self.micro_batch > 1:
            self.state.halved += 1
            if self.micro_batch < largest:
                return self.make_step_batch(step_batch.epoch, step_batch.indices).micro_batches
        return None

    def run_step(self, step_batch: StepBatch) -> Iterator[Event]:
        """Take the next step and account for it."""
        state, step = self.state, self.state.step + 1
        learning_rates = optimizers.set_learning_rates(
            self.train_step.optimizer,
            lr_lambda(step, self.total_steps, self.warmup_fraction, self.settings.schedule),
        )
        start = time.perf_counter()
        if any(len(batch) > self.micro_batch for batch in step_batch.micro_batches):
            step_batch = self.make_step_batch(
                step_batch.epoch, step_batch.indices
            )  # it was made before memory ran out
        halved_before = state.halved
        result = self.train_step(
            step_batch.micro_batches,
            step,
            self.total_steps,
            lambda: self._halve_micro_batch(step_batch),
        )
        [state.halved] = self.distributed.all_reduce_max(state.halved)
        if state.halved > halved_before:
            yield MicroBatchReduced(state.step, self.micro_batch)
        seconds = time.perf_counter() - start
        state.step = step
        rows, tokens = len(step_batch), int(self.train_features.lengths[step_batch.indices].sum())
        state.rows += rows
        state.tokens += tokens
        state.seconds += seconds
        if not result.applied:
            yield self._record_skipped_step(step, step_batch, result.loss_scale_reduced)
            return
        state.bad_in_a_row = 0
        if state.gradient is not None:
            taken = min(result.gradient_norm, self.train_step.max_grad_norm or math.inf)
            state.gradient = max(state.gradient, taken)
        state.loss_sum += result.loss
        metrics = {f"loss_{name}": value for name, value in result.losses.items()}
        for component in self.train_step.components:
            metrics.update(component.metrics())
        metrics.update(result.device_metrics)
        yield StepCompleted(
            step,
            epoch=step / self.sampler.steps_per_epoch,
            loss=result.loss,
            penalty=result.penalty,
            learning_rates=learning_rates,
            gradient_norm=result.gradient_norm,
            rows=rows,
            tokens=tokens,
            seconds=seconds,
            metrics=metrics,
        )

    def _record_skipped_step(self, step: int, step_batch: StepBatch, rescaled: bool) -> Event:
        """A step that was not applied: count it, name its rows, give up after too many."""
        state = self.state
        rows = tuple(sorted(set(self.train_features.gather("row", step_batch.indices).tolist())))
        if rescaled:
            state.rescaled += 1
            return StepSkipped(step, "fp16 overflow: the loss scale was lowered", rows)
        state.skipped += 1
        state.bad_in_a_row += 1
        if state.bad_in_a_row >= self.settings.non_finite_limit:
            raise NonFiniteError(
                f"loss or gradient was not finite in {state.bad_in_a_row} steps in a row "
                f"(rows of the last: {format_list(rows, 8)})",
                where=f"step {step}",
                hint="Nothing of them was applied. Lower trainer.learning_rate, raise"
                " trainer.warmup, or look at those rows",
            )
        return StepSkipped(step, "loss or gradient was not finite", rows)

    def _evaluation_due(self, step: int) -> bool:
        if self.validation_features is None:
            return False
        every = self.settings.evaluate_every or self.sampler.steps_per_epoch
        return step % every == 0 or step == self.total_steps

    def _checkpoint_due(self, step: int, evaluated: bool) -> bool:
        every = self.settings.checkpoint_every
        return evaluated if every is None else step % every == 0

    def _evaluate(self) -> Evaluated:
        state, task, train_step = self.state, self.train_step.task, self.train_step
        assert self.validation_features is not None
        start = time.perf_counter()
        outputs: list[np.ndarray] = []
        metrics = evaluate(
            train_step.runner,
            task,
            self.validation_features,
            train_step.precision,
            self.distributed,
            outputs.append,
        )
        eligible = all(
            component.is_eligible(state.step, self.total_steps)
            for component in train_step.components
        )
        value = metrics[task.metric]
        # Accuracy and the like have a value even where every answer is NaN.
        is_finite = math.isfinite(value) and not bool(np.isnan(outputs[0]).any())
        state.not_finite += not is_finite
        best = eligible and is_finite and task.is_better(value, state.best)
        if best:
            state.best, state.best_step, state.best_metrics = value, state.step, metrics
            state.stale = 0
            self.best_outputs = outputs[0] if self.keep_outputs else None
        elif eligible:
            state.stale += 1
        return Evaluated(
            state.step,
            epoch=state.step / self.sampler.steps_per_epoch,
            split="validation",
            metrics=metrics,
            metric=task.metric,
            best=best,
            eligible=eligible,
            seconds=time.perf_counter() - start,
        )

    def _save_checkpoint(self, best: bool) -> Checkpointed:
        self._last_saved_step = self.state.step
        return Checkpointed(self.state.step, self.save_checkpoint(self.state, best))

    def _check_weights_changed(self) -> None:
        """NonFiniteError or UsageError where the run ends with the weights that it began with."""
        state = self.state
        if state.step and not state.applied_steps:
            raise NonFiniteError(
                f"none of the {state.step} steps was applied: loss or gradient was not finite",
                where=f"step {state.step}",
                hint="Lower trainer.learning_rate, or check the rows",
            )
        if not state.step or state.start is None:
            return
        now = self._magnitudes()
        self.unchanged = [name for name, size in state.start.items() if now.get(name) == size]
        if self._too_small() or len(self.unchanged) == len(now):
            raise UsageError(
                f"nothing was learnt: no gradient changed a weight in {state.step} steps",
                where=f"step {state.step}",
                hint="The updates are 0 or too small. Raise trainer.learning_rate, or check"
                " trainer.max_grad_norm, trainer.epsilon, loss.focal_gamma and loss.class_weights",
            )

    def _too_small(self) -> bool:
        """Whether no gradient g moved a weight by a millionth of its rate η, which decay may do.

        AdamW's step is at most η · g / ε.
        """
        gradient = self.state.gradient
        if gradient is None:  # the run was begun by an earlier version
            return False
        adamw = self.settings.optimizer == "adamw"
        return gradient <= (1e-6 * self.settings.epsilon if adamw else 0.0)

    def _magnitudes(self) -> dict[str, float]:
        """Σ |weight| of each part that trains, in fp64: the same where nothing has moved.

        Weights that are 0 move by any update, however small: beside the others it does not count.
        """
        sums: dict[str, list[Tensor]] = {}
        for group in self.train_step.optimizer.param_groups:
            sums.setdefault(group["name"].split("/")[0], []).extend(
                torch.linalg.vector_norm(each.detach(), 1, dtype=torch.float64)
                for each in group["params"]
            )
        return {name: float(torch.stack(each).sum()) for name, each in sums.items() if each}

    def _finish(self) -> Finished:
        step = self.state.step
        self._check_weights_changed()
        if self.state.not_finite and self.state.best_step is None:
            raise NonFiniteError(
                f"no evaluation gave a finite {self.train_step.task.metric}: there is no best"
                " model",
                where=f"step {step}",
                hint="Lower trainer.learning_rate or raise trainer.warmup",
            )
        return Finished(step, "done" if step >= self.total_steps else "patience")

    def _out_of_patience(self) -> bool:
        patience = self.settings.patience
        return patience is not None and self.state.stale >= patience
