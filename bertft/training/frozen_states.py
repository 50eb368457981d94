"""Compute the states of frozen layers for a whole table.

The batches are those of an evaluation. Evaluations that begin with the states therefore have the
bits of evaluations that compute all layers: each product has the same shape in both.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from bertft.data.batch import Batch, collate, evaluation_batches
from bertft.data.features import FeatureTable
from bertft.data.stored_states import StateOrder
from bertft.models.frozen_layers import FrozenLayers
from bertft.models.precision import Precision
from bertft.models.runner import EncoderRunner
from bertft.training.evaluate import token_budget
from bertft.training.step import split_on_oom
from bertft.utils.background import prefetch
from bertft.utils.status import advance_status

__all__ = ["compute_states", "skip_frozen_layers", "state_order"]


def skip_frozen_layers(
    runner: EncoderRunner, count: int, table: FeatureTable, precision: Precision
) -> Tensor | None:
    """Let passes over batches with ``frozen_states`` skip the first ``count`` layers.

    Two features of ``table`` are computed with and without skipping. If the logits differ in a bit,
    the architecture is not supported, and nothing changes.

    Returns:
        The states of the two features, in the number format of all states; None if the
        architecture is not supported.
    """
    by_length = np.argsort(np.asarray(table.lengths), kind="stable")
    features = np.unique(by_length[[0, len(by_length) // 2]])
    batch = collate(table, features, ()).to(precision.device)
    batch = replace(batch, frozen_states=None)
    with _evaluating(runner), torch.inference_mode(), precision.autocast():
        expected = runner(batch)
        runner.frozen = FrozenLayers(runner.model, count)
        states = runner.compute_frozen_states(batch)
        if torch.equal(runner(replace(batch, frozen_states=states)), expected):
            return states
    runner.frozen = None
    return None


def state_order(runner: EncoderRunner, table: FeatureTable, precision: Precision) -> StateOrder:
    """The order in which ``compute_states`` yields the vectors of ``table``."""
    assert runner.frozen is not None
    lengths = np.asarray(table.lengths)
    batches = evaluation_batches(lengths, token_budget(precision.device))
    one_per_feature = runner.frozen.includes_all and runner.level == "sequence"
    sizes = np.ones(len(lengths), np.int32) if one_per_feature else lengths
    return StateOrder(np.concatenate(batches), sizes)


def compute_states(
    runner: EncoderRunner, table: FeatureTable, precision: Precision
) -> Generator[Tensor, None, None]:
    """Yield the states of ``table`` on the CPU, batch by batch, in the order of ``state_order``.

    The model is in evaluation mode until the generator is closed.
    """
    batches = evaluation_batches(np.asarray(table.lengths), token_budget(precision.device))

    def make_batch(indices: np.ndarray) -> Batch:
        return collate(table, indices, ()).pin_memory(precision.device)

    def run_batch(batch: Batch) -> Tensor:
        with torch.inference_mode(), precision.autocast():
            return runner.compute_frozen_states(batch.to(precision.device)).cpu()

    with (
        _evaluating(runner),
        contextlib.closing(prefetch(make_batch(indices) for indices in batches)) as prepared,
    ):
        for batch in prepared:
            yield from split_on_oom(run_batch, batch, make_batch)
            advance_status(len(batch))


@contextlib.contextmanager
def _evaluating(runner: EncoderRunner) -> Iterator[None]:
    was_training = runner.model.training
    runner.model.eval()
    try:
        yield
    finally:
        runner.model.train(was_training)
