"""The rows of one optimizer step, cut into micro-batches; several ranks share them out.

    batch of the order → a share for each rank → micro-batches, rows sorted by length within
                       → what the task draws of them

Shares differ by at most one row, and in a ragged last batch a rank may have none. What is drawn
depends on seed, epoch and row alone, and so neither on ranks and micro-batches nor on a resume.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bertft.data.batch import Batch, collate
from bertft.data.features import FeatureTable
from bertft.data.order import LengthGroupedSampler, split_into_micro_batches
from bertft.tasks.task import BaseTask, BatchSeed
from bertft.training.ranks import DistributedContext

__all__ = ["StepBatch", "build_step_batch", "step_indices"]


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
    """The window of the features ``indices``, with at most ``micro_batch_size`` rows a forward pass."""
    draw = BatchSeed(seed, epoch)
    lengths = np.asarray(table.lengths)
    batches = [
        collate(table, micro_batch[np.argsort(lengths[micro_batch], kind="stable")], task.label_columns)
        for micro_batch in split_into_micro_batches(indices[distributed.shard], micro_batch_size)
    ]
    return StepBatch(epoch, indices, [task.train_transform(batch, draw) for batch in batches])


def step_indices(sampler: LengthGroupedSampler, completed_steps: int, total_steps: int) -> Iterator[tuple[int, np.ndarray]]:
    """Epoch, from 0, and features of each step after the first ``completed_steps``, up to ``total_steps``."""
    epoch, first_batch = divmod(completed_steps, sampler.steps_per_epoch)
    while completed_steps < total_steps:
        batches = sampler.epoch_batches(epoch)
        for number in range(first_batch, min(len(batches), first_batch + total_steps - completed_steps)):
            yield epoch, batches[number]
            completed_steps += 1
        epoch, first_batch = epoch + 1, 0
