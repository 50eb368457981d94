"""Measure with a few steps whether a run fits in memory and how long it takes.

    seconds ≈ training tokens · seconds per training token
              + evaluations · validation tokens · seconds per validation token

The step with the longest rows needs the most memory. The seconds per training token are measured
in the first steps of the run, those per validation token with a batch of medium length.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch

from bertft.data.batch import collate, evaluation_batches
from bertft.data.features import FeatureTable
from bertft.training.evaluate import evaluation_transform, token_budget
from bertft.training.events import MicroBatchReduced, StepSkipped
from bertft.training.step import step_indices
from bertft.training.trainer import Trainer

__all__ = ["DryRun", "dry_run"]

_TIMED_STEPS = 3


@dataclass(frozen=True)
class DryRun:
    """The result of a dry run.

    Attributes:
        max_length: tokens of the longest row.
        micro_batch: rows per forward pass that fit in memory.
        micro_batch_reduced: whether these are fewer than configured.
        finite: whether every loss and gradient was finite.
        evaluations: number of evaluations in the whole run.
        seconds: estimated duration of the whole run.
    """

    rows_per_step: int
    max_length: int
    micro_batch: int
    micro_batch_reduced: bool
    finite: bool
    evaluations: int
    seconds: float


def dry_run(trainer: Trainer) -> DryRun:
    """Take a few steps with ``trainer``. This changes its model."""
    train, sampler = trainer.data.train, trainer.data.sampler
    total_steps = trainer.schedule.total_steps
    lengths = np.asarray(train.lengths)
    longest_rows = np.argsort(-lengths, kind="stable")[: trainer.settings.batch_size]
    trainer.train_step.runner.model.train()
    events = list(trainer.run_step(trainer.make_step_batch(0, longest_rows)))
    seconds = tokens = 0.0
    for epoch, indices in step_indices(sampler, 0, min(_TIMED_STEPS, total_steps)):
        start = _synchronized_time(trainer)
        events += trainer.run_step(trainer.make_step_batch(epoch, indices))
        seconds += _synchronized_time(trainer) - start
        tokens += int(lengths[indices].sum())
    total_tokens = float(lengths.sum()) * total_steps / sampler.steps_per_epoch
    estimated_seconds = total_tokens * seconds / tokens
    evaluations = 0
    if trainer.data.validation is not None:
        every = trainer.settings.evaluate_every or sampler.steps_per_epoch
        evaluations = -(-total_steps // every)
        estimated_seconds += evaluations * _time_evaluation(trainer, trainer.data.validation)
    return DryRun(
        rows_per_step=len(longest_rows),
        max_length=int(lengths[longest_rows[0]]),
        micro_batch=min(trainer.micro_batch_size, len(longest_rows)),
        micro_batch_reduced=any(isinstance(event, MicroBatchReduced) for event in events),
        finite=not any(isinstance(event, StepSkipped) for event in events),
        evaluations=evaluations,
        seconds=estimated_seconds,
    )


def _time_evaluation(trainer: Trainer, table: FeatureTable) -> float:
    """Seconds of one evaluation of ``table``, estimated from a batch of medium length."""
    train_step, lengths = trainer.train_step, np.asarray(table.lengths)
    device = train_step.precision.device
    batches = evaluation_batches(lengths, token_budget(device))
    indices = batches[len(batches) // 2]
    transform = evaluation_transform(train_step.task)
    train_step.runner.model.eval()
    with torch.inference_mode(), train_step.precision.autocast():
        for _ in range(2):  # the first pass warms up
            start = _synchronized_time(trainer)
            batch = transform(collate(table, indices, train_step.task.label_columns))
            train_step.runner(batch.to(device))
            seconds = _synchronized_time(trainer) - start
    seconds_per_token = seconds / float(lengths[indices].sum())
    return seconds_per_token * float(lengths.sum()) / trainer.distributed.world_size


def _synchronized_time(trainer: Trainer) -> float:
    device = trainer.train_step.precision.device
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
