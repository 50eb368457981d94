"""The training loop: a generator of events. Saving, printing and plotting listen to it.

    for event in loop.run():
        for listener in listeners:
            listener(event)

The order of rows is a function of (seed, epoch) alone, and ``Progress`` says how far it went, so
a loop that is rebuilt with a saved progress goes on exactly where the other one stopped. Several
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

from bertft.config.messages import listing
from bertft.config.trainer import TrainerConfig
from bertft.data.batch import Batch
from bertft.data.features import FeatureTable
from bertft.data.order import TrainOrder, prefetch
from bertft.errors import NonFiniteError, UsageError
from bertft.training import optimizer as optimizers
from bertft.training.evaluate import evaluate
from bertft.training.events import (
    Checkpointed,
    Evaluated,
    Event,
    Finished,
    Interrupted,
    MemoryShort,
    Skipped,
    Started,
    Step,
)
from bertft.training.ranks import ALONE, Ranks
from bertft.training.schedule import factor
from bertft.training.signals import StopRequest
from bertft.training.step import Stepper
from bertft.training.window import Window, cut, windows

__all__ = ["Loop", "Progress"]


@dataclass
class Progress:
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
    def applied(self) -> int:
        """Steps that changed the weights."""
        return self.step - self.skipped - self.rescaled

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """ValueError where ``state`` is none that ``state_dict`` gave."""
        known = asdict(self)
        for name, value in state.items():
            plain = value is None or isinstance(value, (bool, int, float, dict))
            counted = isinstance(known.get(name), int)  # floats, and what may be None, are free
            if name not in known or not plain or (counted and not _is_count(value)):
                raise ValueError(f"{name} = {value!r} is no progress")
            setattr(self, name, value)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


class Loop:
    """``total`` optimizer steps over ``table``; ``save(progress, best)`` writes a checkpoint.

    ``best_outputs``: what the task's metrics of the best evaluation were made of, where
    ``keep_outputs`` says so; None if the best one was made before this process. ``unchanged``, at
    the end: names of parts of which no weight moved.
    """

    def __init__(
        self,
        *,
        stepper: Stepper,
        table: FeatureTable,
        validation: FeatureTable | None,
        order: TrainOrder,
        settings: TrainerConfig,
        total: int,
        warmup: float,
        save: Callable[[Progress, bool], Path],
        stop: StopRequest,
        progress: Progress | None = None,
        ranks: Ranks = ALONE,
        keep_outputs: bool = False,
    ) -> None:
        self.keep_outputs = keep_outputs
        self.best_outputs: np.ndarray | None = None
        self.stepper, self.table, self.validation = stepper, table, validation
        self.order, self.settings, self.total, self.warmup = order, settings, total, warmup
        self.save, self.stop, self.ranks = save, stop, ranks
        self.progress = progress or Progress()
        self.unchanged: list[str] = []
        self._saved_at: int | None = self.progress.step if progress else None

    def run(self) -> Iterator[Event]:
        """Yield the events of the rest of the run. NonFiniteError after too many bad steps."""
        progress, model = self.progress, self.stepper.runner.model
        yield Started(progress.step, self.total, self.order.steps_per_epoch, len(self.table))
        if self._out_of_patience():  # it was stopped just as its patience ended
            yield self._finished()
            return
        if progress.step == 0:
            progress.start, progress.gradient = self._magnitudes(), 0.0
        model.train()
        with closing(prefetch(self._windows(progress.step))) as ahead:
            for window in ahead:
                yield from self.take(window)
                if progress.step >= self.total:
                    self._check_applied()
                due = self._evaluation_due(progress.step)
                improved = False
                if due:
                    evaluated = self._evaluate()
                    improved = evaluated.best
                    yield evaluated
                # Ranks hear a signal at different moments: they stop after the same step.
                interrupted = self.ranks.most(self.stop.signum or 0)[0] or None
                if improved or self._checkpoint_due(progress.step, due) or interrupted is not None:
                    yield self._save(improved)
                if interrupted is not None:
                    yield Interrupted(progress.step, interrupted)
                    return
                if due and self._out_of_patience():
                    break
        if self._saved_at != progress.step:
            yield self._save(False)
        yield self._finished()

    def _windows(self, done: int) -> Iterator[Window]:
        """The window of each optimizer step that is left."""
        device = self.stepper.precision.device
        for epoch, indices in windows(self.order, done, self.total):
            window = self.cut(epoch, indices)
            yield replace(window, batches=[batch.staged(device) for batch in window.batches])

    def cut(self, epoch: int, indices: np.ndarray) -> Window:
        """The window of the features ``indices`` in an epoch, from 0."""
        task, seed = self.stepper.task, self.order.seed
        return cut(self.table, epoch, indices, self.micro_batch, task, seed, self.ranks)

    @property
    def micro_batch(self) -> int:
        """Rows a forward pass, as many as memory has sufficed for."""
        rows = self.settings.micro_batch or -(-self.settings.batch_size // self.ranks.size)
        return max(1, -(-rows // 2**self.progress.halved))

    def _halve(self, window: Window) -> list[Batch] | None:
        """The window's batches once more, at most half as large; None if that cannot be."""
        largest = max(len(batch) for batch in window.batches)
        while self.micro_batch > 1:
            self.progress.halved += 1
            if self.micro_batch < largest:
                return self.cut(window.epoch, window.indices).batches
        return None

    def take(self, window: Window) -> Iterator[Event]:
        """Take the next step and account for it."""
        progress, step = self.progress, self.progress.step + 1
        rates = optimizers.set_rates(
            self.stepper.optimizer,
            factor(step, self.total, self.warmup, self.settings.schedule),
        )
        start = time.perf_counter()
        if any(len(batch) > self.micro_batch for batch in window.batches):
            window = self.cut(window.epoch, window.indices)  # it was made before memory ran out
        halved = progress.halved
        outcome = self.stepper(window.batches, step, self.total, lambda: self._halve(window))
        [progress.halved] = self.ranks.most(progress.halved)
        if progress.halved > halved:
            yield MemoryShort(progress.step, self.micro_batch)
        seconds = time.perf_counter() - start
        progress.step = step
        rows, tokens = len(window), int(self.table.lengths[window.indices].sum())
        progress.rows += rows
        progress.tokens += tokens
        progress.seconds += seconds
        if not outcome.applied:
            yield self._skip(step, window, outcome.rescaled)
            return
        progress.bad_in_a_row = 0
        if progress.gradient is not None:
            taken = min(outcome.gradient_norm, self.stepper.clip or math.inf)
            progress.gradient = max(progress.gradient, taken)
        progress.loss_sum += outcome.loss
        measures = {f"loss_{name}": value for name, value in outcome.losses.items()}
        for part in self.stepper.parts:
            measures.update(part.measures())
        measures.update(outcome.readings)
        yield Step(
            step,
            epoch=step / self.order.steps_per_epoch,
            loss=outcome.loss,
            penalty=outcome.penalty,
            learning_rates=rates,
            gradient_norm=outcome.gradient_norm,
            rows=rows,
            tokens=tokens,
            seconds=seconds,
            measures=measures,
        )

    def _skip(self, step: int, window: Window, rescaled: bool) -> Event:
        """A step that was not applied: count it, name its rows, give up after too many."""
        progress = self.progress
        rows = tuple(sorted(set(self.table.gather("row", window.indices).tolist())))
        if rescaled:
            progress.rescaled += 1
            return Skipped(step, "fp16 overflow: the loss scale was lowered", rows)
        progress.skipped += 1
        progress.bad_in_a_row += 1
        if progress.bad_in_a_row >= self.settings.non_finite_limit:
            raise NonFiniteError(
                f"loss or gradient was not finite in {progress.bad_in_a_row} steps in a row "
                f"(rows of the last: {listing(rows, 8)})",
                where=f"step {step}",
                hint="Nothing of them was applied. Lower trainer.learning_rate, raise"
                " trainer.warmup, or look at those rows",
            )
        return Skipped(step, "loss or gradient was not finite", rows)

    def _evaluation_due(self, step: int) -> bool:
        if self.validation is None:
            return False
        every = self.settings.evaluate_every or self.order.steps_per_epoch
        return step % every == 0 or step == self.total

    def _checkpoint_due(self, step: int, evaluated: bool) -> bool:
        every = self.settings.checkpoint_every
        return evaluated if every is None else step % every == 0

    def _evaluate(self) -> Evaluated:
        progress, task, stepper = self.progress, self.stepper.task, self.stepper
        assert self.validation is not None
        start = time.perf_counter()
        kept: list[np.ndarray] = []
        metrics = evaluate(
            stepper.runner, task, self.validation, stepper.precision, self.ranks,
            kept.append,
        )  # fmt: skip
        counts = all(part.ready(progress.step, self.total) for part in stepper.parts)
        value = metrics[task.metric]
        # Accuracy and the like have a value even where every answer is NaN.
        finite = math.isfinite(value) and not bool(np.isnan(kept[0]).any())
        progress.not_finite += not finite
        best = counts and finite and task.better(value, progress.best)
        if best:
            progress.best, progress.best_step, progress.best_metrics = value, progress.step, metrics
            progress.stale = 0
            self.best_outputs = kept[0] if self.keep_outputs else None
        elif counts:
            progress.stale += 1
        return Evaluated(
            progress.step,
            epoch=progress.step / self.order.steps_per_epoch,
            split="validation",
            metrics=metrics,
            metric=task.metric,
            best=best,
            counts=counts,
            seconds=time.perf_counter() - start,
        )

    def _save(self, best: bool) -> Checkpointed:
        self._saved_at = self.progress.step
        return Checkpointed(self.progress.step, self.save(self.progress, best))

    def _check_applied(self) -> None:
        """NonFiniteError or UsageError where the run ends with the weights that it began with."""
        progress = self.progress
        if progress.step and not progress.applied:
            raise NonFiniteError(
                f"none of the {progress.step} steps was applied: loss or gradient was not finite",
                where=f"step {progress.step}",
                hint="Lower trainer.learning_rate, or check the rows",
            )
        if not progress.step or progress.start is None:
            return
        now = self._magnitudes()
        self.unchanged = [name for name, size in progress.start.items() if now.get(name) == size]
        if self._too_small() or len(self.unchanged) == len(now):
            raise UsageError(
                f"nothing was learnt: no gradient changed a weight in {progress.step} steps",
                where=f"step {progress.step}",
                hint="The updates are 0 or too small. Raise trainer.learning_rate, or check"
                " trainer.max_grad_norm, trainer.epsilon, loss.focal_gamma and loss.class_weights",
            )

    def _too_small(self) -> bool:
        """Whether no gradient g moved a weight by a millionth of its rate η, which decay may do.

        AdamW's step is at most η · g / ε.
        """
        gradient = self.progress.gradient
        if gradient is None:  # the run was begun by an earlier version
            return False
        adamw = self.settings.optimizer == "adamw"
        return gradient <= (1e-6 * self.settings.epsilon if adamw else 0.0)

    def _magnitudes(self) -> dict[str, float]:
        """Σ |weight| of each part that trains, in fp64: the same where nothing has moved.

        Weights that are 0 move by any update, however small: beside the others it does not count.
        """
        sums: dict[str, list[Tensor]] = {}
        for group in self.stepper.optimizer.param_groups:
            sums.setdefault(group["name"].split("/")[0], []).extend(
                torch.linalg.vector_norm(each.detach(), 1, dtype=torch.float64)
                for each in group["params"]
            )
        return {name: float(torch.stack(each).sum()) for name, each in sums.items() if each}

    def _finished(self) -> Finished:
        step = self.progress.step
        self._check_applied()
        if self.progress.not_finite and self.progress.best_step is None:
            raise NonFiniteError(
                f"no evaluation gave a finite {self.stepper.task.metric}: there is no best model",
                where=f"step {step}", hint="Lower trainer.learning_rate or raise trainer.warmup",
            )  # fmt: skip
        return Finished(step, "done" if step >= self.total else "patience")

    def _out_of_patience(self) -> bool:
        patience = self.settings.patience
        return patience is not None and self.progress.stale >= patience
