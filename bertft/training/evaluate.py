"""Score a whole table: token-budget batches sorted by length, inference mode, order restored."""

from __future__ import annotations

import numpy as np
import torch

from bertft.data.batch import collate
from bertft.data.features import FeatureTable
from bertft.data.order import evaluation_batches, prefetch
from bertft.models.precision import Precision
from bertft.models.runner import EncoderRunner
from bertft.tasks.task import BaseTask

__all__ = ["evaluate", "predict_logits", "token_budget"]


def token_budget(device: torch.device) -> int:
    """Tokens a forward pass without gradients; more gain nothing on that kind of device."""
    return 65_536 if device.type == "cuda" else 4_096


def predict_logits(
    runner: EncoderRunner, table: FeatureTable, precision: Precision, budget: int | None = None
) -> np.ndarray:
    """fp32 logits in the table's order: [rows, C] for sequence-level heads.

    Token-level heads give [tokens, C], the rows' tokens end to end. The batches depend on the
    table's lengths alone, so that the same rows give the same bits again.
    """
    model = runner.model
    trained = model.training
    model.eval()
    lengths = np.asarray(table.lengths)
    batches = evaluation_batches(lengths, budget or token_budget(precision.device))
    starts = np.cumsum(lengths, dtype=np.int64) - lengths
    result: np.ndarray | None = None
    try:
        with torch.inference_mode():
            for batch in prefetch(collate(table, indices, ()) for indices in batches):
                with precision.context():
                    logits = runner(batch.to(precision.device)).float().cpu().numpy()
                if result is None:
                    size = len(lengths) if runner.level == "sequence" else int(lengths.sum())
                    result = np.empty((size, *logits.shape[1:]), np.float32)
                if runner.level == "sequence":
                    result[batch.index] = logits
                else:
                    result[_tokens(starts[batch.index], lengths[batch.index])] = logits
    finally:
        model.train(trained)
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
    return task.metrics(predict_logits(runner, table, precision), table)
