"""The training loop: a generator of events. Saving, printing and plotting listen to it.

    for event in loop.run():
        for listener in listeners:
            listener(event)

The order of rows is a function of (seed, epoch) alone, and ``Progress`` says how far it went, so
a loop that is rebuilt with a saved progress goes on exactly where the other one stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bertft.config.messages import listing
from bertft.config.trainer import TrainerConfig
from bertft.data.batch import Batch, collate
from bertft.data.features import FeatureTable
from bertft.data.order import TrainOrder, micro_batches, prefetch
from bertft.errors import NonFiniteError
from bertft.tasks.task import Draw
from bertft.training import optimizer as adamw
from bertft.training.evaluate import evaluate
from bertft.training.events import (
    Checkpointed,
    Evaluated,
    Event,
    Finished,
    Interrupted,
    Skipped,
    Started,
    Step,
)
from bertft.training.schedule import factor
from bertft.training.signals import StopRequest
from bertft.training.step import Stepper

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
    rows: int = 0
    tokens: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)


class Loop:
    """``total`` optimizer steps over ``table``; ``save(progress, best)`` writes a checkpoint."""

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
    ) -> None:
        self.stepper, self.table, self.validation = stepper, table, validation
        self.order, self.settings, self.total, self.warmup = order, settings, total, warmup
        self.save, self.stop = save, stop
        self.progress = progress or Progress()
        self._saved_at: int | None = self.progress.step if progress else None

    def run(self) -> Iterator[Event]:
        """Yield the events of the rest of the run. NonFiniteError after too many bad steps."""
        progress, model = self.progress, self.stepper.runner.model
        yield Started(progress.step, self.total, self.order.steps_per_epoch, len(self.table))
        if self._out_of_patience():  # it was stopped just as its patience ended
            yield self._finished()
            return
        model.train()
        with closing(prefetch(self._windows(progress.step))) as windows:
            for batches in windows:
                yield self._step(batches)
                due = self._evaluation_due(progress.step)
                improved = False
                if due:
                    evaluated = self._evaluate()
                    improved = evaluated.best
                    yield evaluated
                interrupted = self.stop.signum
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

    def _windows(self, done: int) -> Iterator[list[Batch]]:
        """Micro-batches of each optimizer step that is left, rows sorted by length within."""
        micro = self.settings.micro_batch or self.settings.batch_size
        task = self.stepper.task
        epoch, skip = divmod(done, self.order.steps_per_epoch)
        while done < self.total:
            for indices in list_from(self.order.epoch(epoch), skip):
                window = []
                for part in micro_batches(indices, micro):
                    lengths = np.asarray(self.table.lengths)[part]
                    ordered = part[np.argsort(lengths, kind="stable")]
                    batch = collate(self.table, ordered, task.label_columns)
                    window.append(task.drawn(batch, Draw(self.order.seed, epoch)))
                yield window
                done += 1
                if done >= self.total:
                    return
            epoch, skip = epoch + 1, 0

    def _step(self, batches: list[Batch]) -> Event:
        """Take the next step and account for it."""
        progress, step = self.progress, self.progress.step + 1
        rates = adamw.set_rates(
            self.stepper.optimizer,
            factor(step, self.total, self.warmup, self.settings.schedule),
        )
        start = time.perf_counter()
        outcome = self.stepper(batches, step, self.total)
        seconds = time.perf_counter() - start
        progress.step = step
        rows = sum(len(batch.index) for batch in batches)
        tokens = sum(int(batch.input_ids.shape[0]) for batch in batches)
        progress.rows += rows
        progress.tokens += tokens
        progress.seconds += seconds
        if not outcome.applied:
            return self._skip(step, batches, outcome.rescaled)
        progress.bad_in_a_row = 0
        progress.loss_sum += outcome.loss
        measures: dict[str, float] = {}
        for part in self.stepper.parts:
            measures.update(part.measures())
        return Step(
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

    def _skip(self, step: int, batches: Sequence[Batch], rescaled: bool) -> Event:
        """A step that was not applied: count it, name its rows, give up after too many."""
        progress = self.progress
        features = np.concatenate([batch.index for batch in batches])
        rows = tuple(sorted(set(self.table.gather("row", features).tolist())))
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
        metrics = evaluate(stepper.runner, task, self.validation, stepper.precision)
        counts = all(part.ready(progress.step, self.total) for part in stepper.parts)
        value = metrics[task.metric]
        best = counts and math.isfinite(value) and task.better(value, progress.best)
        if best:
            progress.best, progress.best_step, progress.best_metrics = value, progress.step, metrics
            progress.stale = 0
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

    def _finished(self) -> Finished:
        step = self.progress.step
        return Finished(step, "done" if step >= self.total else "patience")

    def _out_of_patience(self) -> bool:
        patience = self.settings.patience
        return patience is not None and self.progress.stale >= patience


def list_from(batches: Sequence[np.ndarray], skip: int) -> Iterator[np.ndarray]:
    """The batches of an epoch after the first ``skip``."""
    return (batches[number] for number in range(skip, len(batches)))
