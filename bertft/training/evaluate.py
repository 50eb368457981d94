"""Score a whole table: token-budget batches sorted by length, inference mode, order restored.

Several ranks share the batches out; metrics are those of all logits, never averages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from bertft.data.batch import Batch, collate
from bertft.data.features import FeatureTable
from bertft.data.order import evaluation_batches, prefetch
from bertft.models.precision import Precision
from bertft.tasks.task import BaseTask, Draw
from bertft.training.out_of_memory import in_halves
from bertft.training.ranks import ALONE, Ranks

__all__ = ["Answering", "evaluate", "outputs_of", "predict_logits", "scored", "token_budget"]


_HELD_BYTES = 1 << 26
"""Bytes of outputs that stay on the device: fetched one by one, each batch would be waited for."""


class Answering(Protocol):
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
    runner: Answering,
    table: FeatureTable,
    precision: Precision,
    budget: int | None = None,
    ranks: Ranks = ALONE,
    prepare: Callable[[Batch], Batch] = lambda batch: batch,
    outputs: Callable[[Tensor, Batch], Tensor] = lambda logits, _: logits,
    columns: Sequence[str] = (),
) -> np.ndarray:
    """fp32 logits in the table's order: [rows, C] for sequence-level heads.

    Token-level heads give [tokens, C], the rows' tokens end to end. The batches depend on the
    table's lengths alone, so that the same rows give the same bits again, on any number of ranks;
    unless memory runs out: then a batch's rows are run in halves.
    ``prepare`` makes of a batch, collated with ``columns``, what is run; ``outputs`` takes what is
    kept of its logits. Where batches choose tokens, those alone are kept: [chosen, C].
    """
    model = runner.model
    trained = model.training
    model.eval()
    lengths = np.asarray(table.lengths)
    batches = evaluation_batches(lengths, budget or token_budget(precision.device))[ranks.own]
    starts = np.cumsum(lengths, dtype=np.int64) - lengths
    pieces: list[tuple[np.ndarray, np.ndarray]] = []
    held: list[tuple[np.ndarray, Tensor]] = []
    size = 0

    def made(part: np.ndarray) -> Batch:
        return prepare(collate(table, part, columns)).staged(precision.device)

    def run(batch: Batch) -> tuple[np.ndarray, Tensor]:
        moved = batch.to(precision.device)
        with precision.context():
            kept = outputs(runner(moved), moved).float()
        places = batch.index
        if runner.level == "token":
            places = _tokens(starts[places], lengths[places])
        return places if batch.chosen is None else places[batch.chosen.numpy()], kept

    def fetch() -> None:
        pieces.extend((places, each.cpu().numpy()) for places, each in held)
        held.clear()

    try:
        with torch.inference_mode():
            for batch in prefetch(made(part) for part in batches):
                for places, kept in in_halves(run, batch, made):
                    held.append((places, kept))
                    size += kept.nbytes
                if size > _HELD_BYTES:
                    fetch()
                    size = 0
            fetch()
    finally:
        model.train(trained)
    pieces = ranks.gather(pieces)
    if not pieces:
        return np.empty((0, 0), np.float32)
    found = np.sort(np.concatenate([places for places, _ in pieces]))
    result = np.empty((len(found), *pieces[0][1].shape[1:]), np.float32)
    for places, each in pieces:
        result[np.searchsorted(found, places)] = each
    return result


def _tokens(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Places of the tokens of rows that start at ``starts``."""
    before = np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.repeat(starts, lengths) + np.arange(int(lengths.sum())) - before


def scored(task: BaseTask) -> Callable[[Batch], Batch]:
    """What makes of a batch the one that is scored: the same in every run and at any time."""
    draw = Draw(task.config.seed)
    return lambda batch: task.drawn(batch, draw)


def outputs_of(
    runner: Answering,
    task: BaseTask,
    table: FeatureTable,
    precision: Precision,
    ranks: Ranks = ALONE,
) -> np.ndarray:
    """What the task's metrics over the table are made of."""
    return predict_logits(
        runner, table, precision, ranks=ranks,
        prepare=scored(task), outputs=task.outputs, columns=task.label_columns,
    )  # fmt: skip


def evaluate(
    runner: Answering,
    task: BaseTask,
    table: FeatureTable,
    precision: Precision,
    ranks: Ranks = ALONE,
    keep: Callable[[np.ndarray], object] | None = None,
) -> dict[str, float]:
    """All metrics of the task over the whole table; ``keep`` is given what they were made of."""
    found = outputs_of(runner, task, table, precision, ranks)
    if keep is not None:
        keep(found)
    return ranks.told(lambda: task.all_metrics(found, table))
