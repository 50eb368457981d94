"""The rows of one optimizer step, cut into micro-batches; several ranks share them out.

    batch of the order → a share for each rank → micro-batches, rows sorted by length within

Shares differ by at most one row, and in a ragged last batch a rank may have none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bertft.data.batch import Batch, collate
from bertft.data.features import FeatureTable
from bertft.data.order import TrainOrder, micro_batches
from bertft.training.ranks import Ranks

__all__ = ["Window", "cut", "windows"]


@dataclass(frozen=True)
class Window:
    """``indices``: features of the whole step; ``batches``: this rank's share of them."""

    indices: np.ndarray
    batches: list[Batch]

    def __len__(self) -> int:
        return len(self.indices)


def cut(
    table: FeatureTable, indices: np.ndarray, micro: int, columns: Sequence[str], ranks: Ranks
) -> Window:
    """The window of the features ``indices``, with at most ``micro`` rows a forward pass."""
    lengths = np.asarray(table.lengths)
    batches = [
        collate(table, part[np.argsort(lengths[part], kind="stable")], columns)
        for part in micro_batches(indices[ranks.own], micro)
    ]
    return Window(indices, batches)


def windows(order: TrainOrder, done: int, total: int) -> Iterator[np.ndarray]:
    """The features of each step after the first ``done``, up to ``total``, epoch after epoch."""
    epoch, skip = divmod(done, order.steps_per_epoch)
    while done < total:
        batches = order.epoch(epoch)
        for number in range(skip, min(len(batches), skip + total - done)):
            yield batches[number]
            done += 1
        epoch, skip = epoch + 1, 0
