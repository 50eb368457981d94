"""Logits and metrics of a whole table.

Rows are sorted by length, batched by a budget of tokens and run in inference mode; results are
returned in the order of the table. The processes of a distributed run share the batches. Metrics
are computed from all outputs; they are never averages over batches or processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from bertft.data.batch import Batch, BatchSeed, collate, evaluation_batches
from bertft.data.features import FeatureTable
from bertft.models.precision import Precision
from bertft.tasks.task import BaseTask
from bertft.training.distributed import SINGLE_PROCESS, DistributedContext
from bertft.training.step import split_on_oom
from bertft.utils.background import prefetch
from bertft.utils.status import advance_status

__all__ = [
    "HasTrainingMode",
    "LogitsModel",
    "evaluate",
    "evaluation_outputs",
    "evaluation_transform",
    "predict_logits",
    "token_budget",
]


# Outputs are copied to the CPU in groups of this size, because each copy waits for the device.
_MAX_BYTES_ON_DEVICE = 1 << 26


class HasTrainingMode(Protocol):
    """A module that can be switched between training and evaluation."""

    training: bool

    def eval(self) -> object: ...
    def train(self, mode: bool) -> object: ...


class LogitsModel(Protocol):
    """An ``EncoderRunner``, or another model that computes logits of a batch."""

    @property
    def model(self) -> HasTrainingMode: ...
    @property
    def level(self) -> str: ...
    def __call__(self, batch: Batch) -> Tensor: ...


def token_budget(device: torch.device) -> int:
    """Tokens per forward pass without gradients; more tokens are not faster on ``device``."""
    return 65_536 if device.type == "cuda" else 4_096


def predict_logits(
    runner: LogitsModel,
    table: FeatureTable,
    precision: Precision,
    max_tokens: int | None = None,
    distributed: DistributedContext = SINGLE_PROCESS,
    transform: Callable[[Batch], Batch] = lambda batch: batch,
    select_outputs: Callable[[Tensor, Batch], Tensor] = lambda logits, _: logits,
    columns: Sequence[str] = (),
    on_batch: Callable[[int], object] = advance_status,
) -> np.ndarray:
    """Compute the fp32 logits of ``table``, in its order.

    The batches depend on the lengths in the table alone: the logits are bitwise equal for any
    number of processes, unless a batch runs out of memory and is split.

    Args:
        max_tokens: tokens per batch; None: ``token_budget`` of the device.
        transform: applied to each batch after it is collated with ``columns``.
        select_outputs: ``select_outputs(logits, batch)`` replaces the logits of a batch.
        on_batch: called after each batch with its size, summed over all processes.

    Shapes:
        [rows, C] for sequence-level heads. [tokens, C] for token-level heads, with the tokens of
        all rows concatenated; only the selected tokens, if batches select some.
    """
    model = runner.model
    was_training = model.training
    lengths = np.asarray(table.lengths)
    row_starts = np.cumsum(lengths, dtype=np.int64) - lengths
    batches = evaluation_batches(lengths, max_tokens or token_budget(precision.device))
    on_host: list[tuple[np.ndarray, np.ndarray]] = []  # positions in the result, values
    on_device: list[tuple[np.ndarray, Tensor]] = []
    bytes_on_device = 0

    def make_batch(indices: np.ndarray) -> Batch:
        return transform(collate(table, indices, columns)).pin_memory(precision.device)

    def run_batch(batch: Batch) -> tuple[np.ndarray, Tensor]:
        device_batch = batch.to(precision.device)
        with precision.autocast():
            outputs = select_outputs(runner(device_batch), device_batch).float()
        positions = batch.feature_indices
        if runner.level == "token":
            positions = _token_positions(row_starts[positions], lengths[positions])
        if batch.selected_tokens is not None:
            positions = positions[batch.selected_tokens.numpy()]
        return positions, outputs

    def move_to_host() -> None:
        on_host.extend((positions, outputs.cpu().numpy()) for positions, outputs in on_device)
        on_device.clear()

    model.eval()
    try:
        with torch.inference_mode():
            for batch in prefetch(make_batch(indices) for indices in batches[distributed.shard]):
                for positions, outputs in split_on_oom(run_batch, batch, make_batch):
                    on_device.append((positions, outputs))
                    bytes_on_device += outputs.nbytes
                on_batch(len(batch) * distributed.world_size)
                if bytes_on_device > _MAX_BYTES_ON_DEVICE:
                    move_to_host()
                    bytes_on_device = 0
            move_to_host()
    finally:
        model.train(was_training)
    return _in_table_order(distributed.all_gather_objects(on_host))


def _token_positions(row_starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Positions of the tokens of rows with ``lengths`` that begin at ``row_starts``."""
    token_offsets = np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.repeat(row_starts, lengths) + np.arange(int(lengths.sum())) - token_offsets


def _in_table_order(pieces: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Join the values of ``pieces``, sorted by their positions."""
    if not pieces:
        return np.empty((0, 0), np.float32)
    all_positions = np.sort(np.concatenate([positions for positions, _ in pieces]))
    result = np.empty((len(all_positions), *pieces[0][1].shape[1:]), np.float32)
    for positions, values in pieces:
        result[np.searchsorted(all_positions, positions)] = values
    return result


def evaluation_transform(task: BaseTask) -> Callable[[Batch], Batch]:
    """The transform of evaluation batches; it makes the same random choices in every evaluation."""
    batch_seed = BatchSeed(task.config.seed)
    return lambda batch: task.train_transform(batch, batch_seed)


def evaluation_outputs(
    runner: LogitsModel,
    task: BaseTask,
    table: FeatureTable,
    precision: Precision,
    distributed: DistributedContext = SINGLE_PROCESS,
) -> np.ndarray:
    """The outputs from which the task computes its metrics over ``table``."""
    return predict_logits(
        runner,
        table,
        precision,
        distributed=distributed,
        transform=evaluation_transform(task),
        select_outputs=task.reduce_outputs,
        columns=task.label_columns,
    )


def evaluate(
    runner: LogitsModel,
    task: BaseTask,
    table: FeatureTable,
    precision: Precision,
    distributed: DistributedContext = SINGLE_PROCESS,
    on_outputs: Callable[[np.ndarray], object] | None = None,
) -> dict[str, float]:
    """All metrics of ``task`` over ``table``; ``on_outputs`` is called with the outputs."""
    outputs = evaluation_outputs(runner, task, table, precision, distributed)
    if on_outputs is not None:
        on_outputs(outputs)
    return distributed.broadcast_object(lambda: task.compute_all_metrics(outputs, table))
