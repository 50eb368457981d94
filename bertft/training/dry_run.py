"""Does a run fit, and how long will it take? A step of the longest rows, then some of its own.

    seconds ≈ tokens to train on · s a token + evaluations · validation tokens · s a token

The step of the longest rows asks for the most memory that any step can. Times of a token are
those of the run's own first batches, forward and backward, and of a middling validation batch.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch

from bertft.data.batch import collate, evaluation_batches
from bertft.training.evaluate import evaluation_transform, token_budget
from bertft.training.events import MicroBatchReduced, StepSkipped
from bertft.training.step import step_indices
from bertft.training.trainer import Trainer

__all__ = ["DryRun", "dry_run"]

_TIMED_STEPS = 3  # steps


@dataclass(frozen=True)
class DryRun:
    """``rows_per_step`` of up to ``max_length`` tokens in one step; ``seconds`` are guessed for the
    whole run.

    ``micro_batch``: rows a pass that memory sufficed for; ``micro_batch_reduced``: fewer than were
    asked for.
    """

    rows_per_step: int
    max_length: int
    micro_batch: int
    micro_batch_reduced: bool
    finite: bool
    evaluations: int
    seconds: float


def dry_run(trainer: Trainer) -> DryRun:
    """Take steps of ``trainer``, whose model is of no use afterwards."""
    lengths = np.asarray(trainer.train_features.lengths)
    longest_rows = np.argsort(-lengths, kind="stable")[: trainer.settings.batch_size]
    trainer.train_step.runner.model.train()
    events = list(trainer.run_step(trainer.make_step_batch(0, longest_rows)))
    seconds = tokens = 0.0
    for epoch, indices in step_indices(trainer.sampler, 0, min(_TIMED_STEPS, trainer.total_steps)):
        start = _synchronized_time(trainer)
        events += trainer.run_step(trainer.make_step_batch(epoch, indices))
        seconds += _synchronized_time(trainer) - start
        tokens += int(lengths[indices].sum())
    total_tokens = float(lengths.sum()) * trainer.total_steps / trainer.sampler.steps_per_epoch
    estimated_seconds = total_tokens * seconds / tokens
    evaluations = 0
    if trainer.validation_features is not None:
        every = trainer.settings.evaluate_every or trainer.sampler.steps_per_epoch
        evaluations = -(-trainer.total_steps // every)
        estimated_seconds += evaluations * _time_evaluation(trainer)
    return DryRun(
        rows_per_step=len(longest_rows),
        max_length=int(lengths[longest_rows[0]]),
        micro_batch=min(trainer.micro_batch, len(longest_rows)),
        micro_batch_reduced=any(isinstance(event, MicroBatchReduced) for event in events),
        finite=not any(isinstance(event, StepSkipped) for event in events),
        evaluations=evaluations,
        seconds=estimated_seconds,
    )


def _time_evaluation(trainer: Trainer) -> float:
    """Seconds of one evaluation, from a batch of middling length."""
    assert trainer.validation_features is not None
    train_step, lengths = trainer.train_step, np.asarray(trainer.validation_features.lengths)
    batches = evaluation_batches(lengths, token_budget(train_step.precision.device))
    indices = batches[len(batches) // 2]
    transform = evaluation_transform(train_step.task)
    train_step.runner.model.eval()
    with torch.inference_mode(), train_step.precision.autocast():
        for _ in range(2):  # the first one warms up
            start = _synchronized_time(trainer)
            batch = transform(
                collate(trainer.validation_features, indices, train_step.task.label_columns)
            )
            train_step.runner(batch.to(train_step.precision.device))
            seconds = _synchronized_time(trainer) - start
    return (
        seconds
        * float(lengths.sum())
        / float(lengths[indices].sum())
        / trainer.distributed.world_size
    )


def _synchronized_time(trainer: Trainer) -> float:
    device = trainer.train_step.precision.device
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
