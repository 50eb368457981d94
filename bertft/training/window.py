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
from bertft.data.order import TrainOrder, micro_batches
from bertft.tasks.task import BaseTask, Draw
from bertft.training.ranks import Ranks

__all__ = ["Window", "cut", "windows"]


@dataclass(frozen=True)
class Window:
    """``indices``: features of the whole step; ``batches``: this rank's share of them."""

    epoch: int
    indices: np.ndarray
    batches: list[Batch]

    def __len__(self) -> int:
        return len(self.indices)


def cut(
    table: FeatureTable,
    epoch: int,
    indices: np.ndarray,
    micro: int,
    task: BaseTask,
    seed: int,
    ranks: Ranks,
) -> Window:
    """The window of the features ``indices``, with at most ``micro`` rows a forward pass."""
    draw = Draw(seed, epoch)
    lengths = np.asarray(table.lengths)
    batches = [
        collate(table, part[np.argsort(lengths[part], kind="stable")], task.label_columns)
        for part in micro_batches(indices[ranks.own], micro)
    ]
    return Window(epoch, indices, [task.drawn(batch, draw) for batch in batches])


def windows(order: TrainOrder, done: int, total: int) -> Iterator[tuple[int, np.ndarray]]:
    """Epoch, from 0, and features of each step after the first ``done``, up to ``total``."""
    epoch, skip = divmod(done, order.steps_per_epoch)
    while done < total:
        batches = order.epoch(epoch)
        for number in range(skip, min(len(batches), skip + total - done)):
            yield epoch, batches[number]
            done += 1
        epoch, skip = epoch + 1, 0
