"""Score a whole table: token-budget batches sorted by length, inference mode, order restored.

Several ranks share the batches out; metrics are those of all logits, never averages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from bertft.data.batch import Batch, BatchSeed, collate, evaluation_batches, prefetch
from bertft.data.features import FeatureTable
from bertft.models.precision import Precision
from bertft.tasks.task import BaseTask
from bertft.training.distributed import SINGLE_PROCESS, DistributedContext
from bertft.training.step import split_on_oom

__all__ = [
    "LogitsModel",
    "evaluate",
    "evaluation_outputs",
    "evaluation_transform",
    "predict_logits",
    "token_budget",
]


_MAX_BYTES_ON_DEVICE = 1 << 26
"""Bytes of outputs that stay on the device: fetched one by one, each batch would be waited for."""


class LogitsModel(Protocol):
    """``EncoderRunner`` and whatever answers a batch as it does; ``model`` can be told to train."""

    @property
    def model(self) -> Any: ...
    @property
    def level(self) -> str: ...
    def __call__(self, batch: Batch) -> Tensor: ...


def token_budget(device: torch.device) -> int:
    """Tokens a forward pass without gradients; more gain nothing on that kind of device."""
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
) -> np.ndarray:
    """fp32 logits in the table's order: [rows, C] for sequence-level heads.

    Token-level heads give [tokens, C], the rows' tokens end to end. The batches depend on the
    table's lengths alone, so that the same rows give the same bits again, on any number of ranks;
    unless memory runs out: then a batch's rows are run in halves. ``transform`` makes of a batch,
    collated with ``columns``, what is run; ``select_outputs`` takes what is kept of its logits.
    Where batches choose tokens, those alone are kept: [chosen, C].
    """
    model = runner.model
    was_training = model.training
    model.eval()
    lengths = np.asarray(table.lengths)
    batches = evaluation_batches(lengths, max_tokens or token_budget(precision.device))[
        distributed.shard
    ]
    row_starts = np.cumsum(lengths, dtype=np.int64) - lengths
    pieces: list[tuple[np.ndarray, np.ndarray]] = []
    on_device: list[tuple[np.ndarray, Tensor]] = []
    bytes_on_device = 0

    def make_batch(indices: np.ndarray) -> Batch:
        return transform(collate(table, indices, columns)).pin_memory(precision.device)

    def run_batch(batch: Batch) -> tuple[np.ndarray, Tensor]:
        device_batch = batch.to(precision.device)
        with precision.autocast():
            batch_outputs = select_outputs(runner(device_batch), device_batch).float()
        positions = batch.feature_indices
        if runner.level == "token":
            positions = _token_positions(row_starts[positions], lengths[positions])
        return positions if batch.selected_tokens is None else positions[
            batch.selected_tokens.numpy()
        ], batch_outputs

    def move_to_host() -> None:
        pieces.extend(
            (positions, batch_outputs.cpu().numpy()) for positions, batch_outputs in on_device
        )
        on_device.clear()

    try:
        with torch.inference_mode():
            for batch in prefetch(make_batch(indices) for indices in batches):
                for places, kept in split_on_oom(run_batch, batch, make_batch):
                    on_device.append((places, kept))
                    bytes_on_device += kept.nbytes
                if bytes_on_device > _MAX_BYTES_ON_DEVICE:
                    move_to_host()
                    bytes_on_device = 0
            move_to_host()
    finally:
        model.train(was_training)
    pieces = distributed.all_gather_objects(pieces)
    if not pieces:
        return np.empty((0, 0), np.float32)
    all_positions = np.sort(np.concatenate([places for places, _ in pieces]))
    result = np.empty((len(all_positions), *pieces[0][1].shape[1:]), np.float32)
    for places, values in pieces:
        result[np.searchsorted(all_positions, places)] = values
    return result


def _token_positions(row_starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Places of the tokens of rows that start at ``row_starts``."""
    token_offsets = np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.repeat(row_starts, lengths) + np.arange(int(lengths.sum())) - token_offsets


def evaluation_transform(task: BaseTask) -> Callable[[Batch], Batch]:
    """What makes of a batch the one that is scored: the same in every run and at any time."""
    draw = BatchSeed(task.config.seed)
    return lambda batch: task.train_transform(batch, draw)


def evaluation_outputs(
    runner: LogitsModel,
    task: BaseTask,
    table: FeatureTable,
    precision: Precision,
    distributed: DistributedContext = SINGLE_PROCESS,
) -> np.ndarray:
    """What the task's metrics over the table are made of."""
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
    """All metrics of the task over the whole table; ``on_outputs`` receives the outputs."""
    outputs = evaluation_outputs(runner, task, table, precision, distributed)
    if on_outputs is not None:
        on_outputs(outputs)
    return distributed.broadcast_object(lambda: task.compute_all_metrics(outputs, table))
