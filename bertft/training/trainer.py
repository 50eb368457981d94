"""The training loop: a generator of events.

    for event in trainer.run():
        for callback in callbacks:
            callback(event)

``Trainer`` takes the optimizer steps, evaluates, and saves checkpoints. Logging, progress and
trackers are callbacks that receive its events. ``bertft.training.step`` computes one step.

The order of the rows is a function of (seed, epoch) alone and ``TrainerState`` records how far
training is, so a trainer that is rebuilt from a checkpoint takes the same steps as one that was
never interrupted. In a distributed run every process runs the same loop over its shard of each
batch and yields the same events.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from bertft.config.trainer import TrainerConfig
from bertft.data.batch import Batch, LengthGroupedSampler
from bertft.data.features import FeatureTable
from bertft.errors import CollapseError, NonFiniteError, UsageError
from bertft.training.collapse import CollapseMonitor, constant_prediction
from bertft.training.data_start import start_from_data
from bertft.training.evaluate import evaluate
from bertft.training.events import (
    Checkpointed,
    Collapsed,
    Evaluated,
    Event,
    Finished,
    Interrupted,
    MicroBatchReduced,
    Retried,
    Started,
    StepCompleted,
    StepSkipped,
    Stopped,
)
from bertft.training.signals import StopRequest
from bertft.training.step import (
    Schedule,
    StepBatch,
    StepResult,
    TrainStep,
    build_step_batch,
    set_learning_rates,
    step_indices,
)
from bertft.training.trainer_state import TrainerState
from bertft.training.weight_changes import group_sizes, unchanged_groups, updates_are_negligible
from bertft.utils.background import prefetch
from bertft.utils.messages import format_list
from bertft.utils.status import show_status

__all__ = ["Trainer", "TrainingData"]


@dataclass(frozen=True)
class TrainingData:
    """The features to train on, in the order of ``sampler``, and those to evaluate on, if any.

    ``row_location``: number of a training row → where it is in the data, for messages.
    """

    train: FeatureTable
    validation: FeatureTable | None
    sampler: LengthGroupedSampler
    row_location: Callable[[int], str]


class Trainer:
    """Runs the optimizer steps of ``schedule`` over ``data``.

    Args:
        train_step: computes one optimizer step.
        data: features to train and evaluate on.
        schedule: number of steps and learning rate of each.
        settings: the ``trainer`` section of the configuration.
        save_checkpoint: ``save_checkpoint(state, is_best)`` writes a checkpoint, returns its path.
        stop_request: checked after every step; a signal ends the run after a checkpoint.
        state: progress of a resumed run, whose weights are already loaded.
        keep_outputs: keep the outputs of the best evaluation in ``best_outputs``.
        return_to: ``return_to(step)`` loads the checkpoint of ``step`` again and returns its state.
        rates: setting → peak learning rate, for advice.

    Attributes:
        best_outputs: None without ``keep_outputs``, or if the best evaluation was in an earlier
            process.
        collapse: whether the run has collapsed, and what follows.
        unchanged_groups: after the run, names of the parameter groups that did not learn: no weight
            changed, or by less than the resolution of the other trained weights.
    """

    def __init__(
        self,
        train_step: TrainStep,
        data: TrainingData,
        schedule: Schedule,
        settings: TrainerConfig,
        save_checkpoint: Callable[[TrainerState, bool], Path],
        stop_request: StopRequest,
        state: TrainerState | None = None,
        keep_outputs: bool = False,
        return_to: Callable[[int], TrainerState] | None = None,
        rates: Mapping[str, float] | None = None,
    ) -> None:
        self.train_step, self.data, self.schedule = train_step, data, schedule
        self.settings, self.stop_request = settings, stop_request
        self.save_checkpoint, self.return_to = save_checkpoint, return_to
        self.state = state or TrainerState()
        task = train_step.task if train_step.has_label_loss else None
        self.collapse = CollapseMonitor(
            task, data.train, schedule, settings, rates or {}, self.state.collapse
        )
        self.distributed = train_step.distributed
        self.keep_outputs = keep_outputs
        self.best_outputs: np.ndarray | None = None
        self.unchanged_groups: list[str] = []
        self._last_saved_step: int | None = self.state.step if state else None
        self._stop_step = schedule.stop_step(settings.stop_at)
        self._evaluation_steps = (
            None
            if settings.evaluations is None
            else schedule.evaluation_steps(settings.evaluations)
        )

    def run(self) -> Iterator[Event]:
        """Train to the end and yield the events.

        Raises:
            NonFiniteError: too many consecutive steps had a non-finite loss or gradient, no step
                was applied, or no evaluation was finite.
            CollapseError: the run collapsed and cannot be retried; a checkpoint was saved.
            UsageError: no step changed a weight.
        """
        state, total_steps = self.state, self.schedule.total_steps
        steps_per_epoch, rows = self.data.sampler.steps_per_epoch, len(self.data.train)
        yield Started(state.step, total_steps, steps_per_epoch, rows)
        if self._is_out_of_patience():  # early stopping was due when the run was interrupted
            yield self._finish()
            return
        if total_steps == 0:
            yield from self._evaluate_untrained()
            return
        if self._is_stop_due():  # the run was resumed with the same trainer.stop_at
            yield Stopped(state.step, total_steps)
            return
        if state.step == 0:
            start_from_data(
                self.train_step, self.data.train, self.data.sampler, self.settings, self.distributed
            )
            state.start, state.gradient = group_sizes(self.train_step.optimizer), 0.0
        if self.collapse.allows_retries:
            if state.step == 0 and not self.collapse.protected_steps:
                yield self._save_checkpoint(is_best=False)
            self.collapse.record_checkpoint(state.step, state.best_step)  # of a resumed run
        self.train_step.runner.model.train()
        if self.collapse.must_respond:
            yield from self._respond_to_collapse()
        while (outcome := (yield from self._take_steps())) == "collapsed":
            yield from self._respond_to_collapse()
        if outcome == "stopped":
            return
        if self._last_saved_step != state.step:
            yield self._save_checkpoint(is_best=False)
        yield self._finish()

    def _take_steps(self) -> Generator[Event, None, Literal["done", "stopped", "collapsed"]]:
        """Take the remaining steps; return early if a response to a collapse is due."""
        state, total_steps = self.state, self.schedule.total_steps
        with closing(prefetch(self._step_batches(state.step))) as step_batches:
            for step_batch in step_batches:
                yield from self.run_step(step_batch)
                if state.step >= total_steps:
                    self._check_weights_changed()
                is_best, evaluated = False, self._is_evaluation_due()
                if evaluated:
                    evaluation = self._evaluate()
                    is_best = evaluation.best
                    yield evaluation
                if collapse := self.collapse.notice(state.step):
                    advice, values = self.collapse.advice, (collapse.loss, collapse.input_free_loss)
                    yield Collapsed(state.step, collapse.describe(), advice, *values)
                if self.collapse.must_respond:
                    return "collapsed"
                # A signal reaches the processes at different times: all stop after the same step.
                [signum] = self.distributed.all_reduce_max(self.stop_request.signum or 0)
                is_stopped = self._is_stop_due()
                if is_best or signum or is_stopped or self._is_checkpoint_due(evaluated):
                    yield self._save_checkpoint(is_best)
                if signum:
                    yield Interrupted(state.step, signum)
                    return "stopped"
                if evaluated and self._is_out_of_patience():
                    break
                if is_stopped:
                    yield Stopped(state.step, total_steps)
                    return "stopped"
        return "done"

    def _respond_to_collapse(self) -> Iterator[Event]:
        """Return to the last good checkpoint with half the learning rates, or end the run.

        The next checkpoint contains the retry. If the run is killed before, it is resumed from the
        checkpoint that it returned to, collapses again at the same step, and is retried likewise.
        """
        state, collapsed_step = self.state, self.state.step
        try:
            step = self.collapse.start_retry()
        except CollapseError:
            if self._last_saved_step != state.step:
                yield self._save_checkpoint(state.best_step == state.step)
            raise
        assert self.return_to is not None
        restored = self.return_to(step)
        restored.halved, restored.collapse = state.halved, self.collapse.state_dict()
        vars(state).update(vars(restored))
        self.best_outputs, self._last_saved_step = None, step
        yield Retried(step, collapsed_step, self.collapse.rate_factor, state.best)

    def _evaluate_untrained(self) -> Iterator[Event]:
        """Evaluate the model as it is, and save it (``trainer.max_steps=0``)."""
        is_best = False
        if self.data.validation is not None:
            evaluation = self._evaluate()
            is_best = evaluation.best
            yield evaluation
        yield self._save_checkpoint(is_best)
        yield self._finish()

    def run_step(self, step_batch: StepBatch) -> Iterator[Event]:
        """Take the next optimizer step, on ``step_batch``, and update the state."""
        state, step, start = self.state, self.state.step + 1, time.perf_counter()
        learning_rates = set_learning_rates(
            self.train_step.optimizer, self.schedule.lr_lambda(step) * self.collapse.rate_factor
        )
        # A batch that was prefetched before memory ran out has micro-batches that are too large.
        if any(len(batch) > self.micro_batch_size for batch in step_batch.micro_batches):
            step_batch = self.make_step_batch(step_batch.epoch, step_batch.indices)
        halved_before = state.halved
        result = self.train_step(
            step_batch.micro_batches,
            step,
            self.schedule.total_steps,
            lambda: self._halve_micro_batches(step_batch),
        )
        [state.halved] = self.distributed.all_reduce_max(state.halved)
        if state.halved > halved_before:
            yield MicroBatchReduced(state.step, self.micro_batch_size)
        seconds = time.perf_counter() - start
        rows, tokens = len(step_batch), int(self.data.train.lengths[step_batch.indices].sum())
        state.step = step
        state.rows += rows
        state.tokens += tokens
        state.seconds += seconds
        if not result.applied:
            yield self._skip_step(step_batch, result)
            return
        state.bad_in_a_row = 0
        state.loss_sum += result.loss
        self.collapse.record_step(step, self.train_step.label_loss(result), step_batch.indices)
        if state.gradient is not None:
            clipped_norm = min(result.gradient_norm, self.train_step.max_grad_norm or math.inf)
            state.gradient = max(state.gradient, clipped_norm)
        metrics = {f"loss_{name}": value for name, value in result.losses.items()}
        for component in self.train_step.components:
            metrics.update(component.metrics())
        metrics.update(result.device_metrics)
        yield StepCompleted(
            step,
            epoch=step / self.data.sampler.steps_per_epoch,
            loss=result.loss,
            penalty=result.penalty,
            learning_rates=learning_rates,
            gradient_norm=result.gradient_norm,
            rows=rows,
            tokens=tokens,
            seconds=seconds,
            metrics=metrics,
        )

    def _skip_step(self, step_batch: StepBatch, result: StepResult) -> StepSkipped:
        """Count a step that was not applied. Raises NonFiniteError after too many in a row."""
        state = self.state
        rows = tuple(sorted(set(self.data.train.gather("row", step_batch.indices).tolist())))
        locations = tuple(map(self.data.row_location, rows))
        if result.loss_scale_reduced:
            state.rescaled += 1
            reason = "fp16 overflow: the loss scale was lowered"
            return StepSkipped(state.step, reason, rows, locations)
        state.skipped += 1
        state.bad_in_a_row += 1
        if state.bad_in_a_row >= self.settings.non_finite_limit:
            raise NonFiniteError(
                f"loss or gradient was not finite in {state.bad_in_a_row} consecutive steps "
                f"(rows of the last step: {format_list(locations, 8)})",
                where=f"step {state.step}",
                hint="These steps were not applied. Lower trainer.learning_rate, raise"
                " trainer.warmup, or check those rows",
            )
        return StepSkipped(state.step, "loss or gradient was not finite", rows, locations)

    # Batches

    def _step_batches(self, completed_steps: int) -> Iterator[StepBatch]:
        """The batches of the remaining steps, in pinned memory if the device is a GPU."""
        device, sampler = self.train_step.precision.device, self.data.sampler
        total_steps = self.schedule.total_steps
        for epoch, indices in step_indices(sampler, completed_steps, total_steps):
            step_batch = self.make_step_batch(epoch, indices)
            pinned = [batch.pin_memory(device) for batch in step_batch.micro_batches]
            yield replace(step_batch, micro_batches=pinned)

    def make_step_batch(self, epoch: int, indices: np.ndarray) -> StepBatch:
        """Collate the features ``indices`` for a step in ``epoch`` (from 0)."""
        return build_step_batch(
            self.data.train,
            epoch,
            indices,
            self.micro_batch_size,
            self.train_step.task,
            self.data.sampler.seed,
            self.distributed,
        )

    @property
    def micro_batch_size(self) -> int:
        """Rows per forward pass; halved whenever the device ran out of memory."""
        rows_per_process = -(-self.settings.batch_size // self.distributed.world_size)
        rows = self.settings.micro_batch or rows_per_process
        return max(1, -(-rows // 2**self.state.halved))

    def _halve_micro_batches(self, step_batch: StepBatch) -> list[Batch] | None:
        """The rows of ``step_batch`` in smaller micro-batches; None if each has one row already."""
        largest = max(len(batch) for batch in step_batch.micro_batches)
        while self.micro_batch_size > 1:
            self.state.halved += 1
            if self.micro_batch_size < largest:
                return self.make_step_batch(step_batch.epoch, step_batch.indices).micro_batches
        return None

    # Evaluation and checkpoints

    def _is_evaluation_due(self) -> bool:
        if self.data.validation is None:
            return False
        step, every = self.state.step, self.settings.evaluate_every
        if self._evaluation_steps is not None:
            return step in self._evaluation_steps
        every = every or self.data.sampler.steps_per_epoch
        return step % every == 0 or step == self.schedule.total_steps

    def _is_checkpoint_due(self, evaluated: bool) -> bool:
        every = self.settings.checkpoint_every
        return evaluated if every is None else self.state.step % every == 0

    def _is_stop_due(self) -> bool:
        return self._stop_step is not None and self.state.step >= self._stop_step

    def _is_out_of_patience(self) -> bool:
        patience = self.settings.patience
        return patience is not None and self.state.stale >= patience

    def _evaluate(self) -> Evaluated:
        state, task, train_step = self.state, self.train_step.task, self.train_step
        assert self.data.validation is not None
        start = time.perf_counter()
        outputs: list[np.ndarray] = []
        # Only if it takes long, and not in a terminal, where the block of the progress is muted.
        show_status("evaluating", brief=True, total=len(self.data.validation))
        with train_step.averaged_weights():
            metrics = evaluate(
                train_step.runner,
                task,
                self.data.validation,
                train_step.precision,
                self.distributed,
                outputs.append,
            )
        ineligible_reasons = [
            component.ineligible_reason
            for component in train_step.components
            if not component.is_eligible(state.step, self.schedule.total_steps)
        ]
        eligible = not ineligible_reasons
        value = metrics[task.metric]
        # Some metrics, such as accuracy, are finite even if every output is NaN.
        is_finite = math.isfinite(value) and not bool(np.isnan(outputs[0]).any())
        state.not_finite += not is_finite
        self.collapse.record_evaluation(
            self._constant_prediction(outputs[0])
            if is_finite
            and train_step.objective.trains_outputs
            and self.collapse.needs_evaluation()
            else ""
        )
        is_best = eligible and is_finite and task.is_better(value, state.best)
        if is_best:
            state.best, state.best_step, state.best_metrics = value, state.step, metrics
            state.stale = 0
            self.best_outputs = outputs[0] if self.keep_outputs else None
        elif eligible:
            state.stale += 1
        return Evaluated(
            state.step,
            epoch=state.step / self.data.sampler.steps_per_epoch,
            split="validation",
            metrics=metrics,
            metric=task.metric,
            best=is_best,
            eligible=eligible,
            seconds=time.perf_counter() - start,
            ineligible_reason=", ".join(ineligible_reasons),
            input_free_loss=self._input_free_loss,
        )

    @cached_property
    def _input_free_loss(self) -> float | None:
        """The metric ``loss`` of the best prediction that ignores the input."""
        validation = self.data.validation
        assert validation is not None
        # It is only recorded: by the main process.
        if not self.distributed.is_main_process:
            return None
        return self.train_step.task.input_free_metric(validation)

    def _constant_prediction(self, outputs: np.ndarray) -> str:
        """The finding that all predictions are equal, from the main process; empty without one."""
        task, validation = self.train_step.task, self.data.validation
        assert validation is not None
        return self.distributed.broadcast_object(
            lambda: constant_prediction(task, outputs, validation)
        )

    def _save_checkpoint(self, is_best: bool) -> Checkpointed:
        self._last_saved_step = self.state.step
        self.collapse.record_checkpoint(self.state.step, self.state.best_step)
        self.state.collapse = self.collapse.state_dict()
        with self.train_step.averaged_weights():
            return Checkpointed(self.state.step, self.save_checkpoint(self.state, is_best))

    # Checks at the end

    def _finish(self) -> Finished:
        step = self.state.step
        self._check_weights_changed()
        if self.state.not_finite and self.state.best_step is None:
            raise NonFiniteError(
                f"no evaluation had a finite {self.train_step.task.metric}: there is no best model",
                where=f"step {step}",
                hint="If the validation loss in log.txt is finite, the metric is not defined for"
                " these rows, for example because they have a single class: use other rows or"
                " another data.metric. Otherwise lower trainer.learning_rate or raise"
                " trainer.warmup",
            )
        return Finished(step, "done" if step >= self.schedule.total_steps else "patience")

    def _check_weights_changed(self) -> None:
        """Raise NonFiniteError if no step was applied, UsageError if no weight changed."""
        state = self.state
        if state.step and not state.applied_steps:
            raise NonFiniteError(
                f"none of the {state.step} steps was applied: loss or gradient was not finite",
                where=f"step {state.step}",
                hint="Lower trainer.learning_rate, or check the rows",
            )
        if not state.step or state.start is None:
            return
        sizes = group_sizes(self.train_step.optimizer)
        self.unchanged_groups = unchanged_groups(self.train_step.optimizer, state.start, sizes)
        is_negligible = updates_are_negligible(state.gradient, self.settings)
        if is_negligible or len(self.unchanged_groups) == len(sizes):
            raise UsageError(
                f"nothing was learned: no gradient changed a weight in {state.step} steps",
                where=f"step {state.step}",
                hint="The updates are 0 or too small. Raise trainer.learning_rate, or check"
                " trainer.max_grad_norm, trainer.epsilon, loss.focal_gamma and loss.class_weights",
            )
