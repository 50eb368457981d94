"""Score a whole table: token-budget batches sorted by length, inference mode, order restored."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from bertft.data.batch import Batch, collate
from bertft.data.features import FeatureTable
from bertft.data.order import evaluation_batches, prefetch
from bertft.models.precision import Precision
from bertft.models.runner import EncoderRunner
from bertft.tasks.task import BaseTask, Draw

__all__ = ["evaluate", "predict_logits", "token_budget"]


def token_budget(device: torch.device) -> int:
    """Tokens a forward pass without gradients; more gain nothing on that kind of device."""
    return 65_536 if device.type == "cuda" else 4_096


def predict_logits(
    runner: EncoderRunner,
    table: FeatureTable,
    precision: Precision,
    budget: int | None = None,
    prepare: Callable[[Batch], Batch] = lambda batch: batch,
    outputs: Callable[[Tensor, Batch], Tensor] = lambda logits, _: logits,
    columns: Sequence[str] = (),
) -> np.ndarray:
    """fp32 logits in the table's order: [rows, C] for sequence-level heads.

    Token-level heads give [tokens, C], the rows' tokens end to end. The batches depend on the
    table's lengths alone, so that the same rows give the same bits again. ``prepare`` makes of a
    batch, collated with ``columns``, what is run; ``outputs`` takes what is kept of its logits.
    Where batches choose tokens, those alone are kept: [chosen, C].
    """
    model = runner.model
    trained = model.training
    model.eval()
    lengths = np.asarray(table.lengths)
    batches = evaluation_batches(lengths, budget or token_budget(precision.device))
    starts = np.cumsum(lengths, dtype=np.int64) - lengths
    result: np.ndarray | None = None
    chosen: list[tuple[np.ndarray, np.ndarray]] = []
    collated = (prepare(collate(table, indices, columns)) for indices in batches)
    try:
        with torch.inference_mode():
            for batch in prefetch(collated):
                moved = batch.to(precision.device)
                with precision.context():
                    kept = outputs(runner(moved), moved).float().cpu().numpy()
                at = batch.index
                if runner.level == "token":
                    at = _tokens(starts[at], lengths[at])
                if batch.chosen is not None:
                    chosen.append((at[batch.chosen.numpy()], kept))
                    continue
                if result is None:
                    size = len(lengths) if runner.level == "sequence" else int(lengths.sum())
                    result = np.empty((size, *kept.shape[1:]), np.float32)
                result[at] = kept
    finally:
        model.train(trained)
    if chosen:
        order = np.argsort(np.concatenate([places for places, _ in chosen]))
        return np.concatenate([kept for _, kept in chosen])[order]
    return result if result is not None else np.empty((0, 0), np.float32)


def _tokens(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Places of the tokens of rows that start at ``starts``."""
    before = np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.repeat(starts, lengths) + np.arange(int(lengths.sum())) - before


def evaluate(
    runner: EncoderRunner,
    task: BaseTask,
    table: FeatureTable,
    precision: Precision,
) -> dict[str, float]:
    """All metrics of the task over the whole table."""
    draw = Draw(task.config.seed)
    found = predict_logits(
        runner, table, precision,
        prepare=lambda batch: task.drawn(batch, draw),
        outputs=task.outputs,
        columns=task.label_columns,
    )  # fmt: skip
    return task.metrics(found, table)
