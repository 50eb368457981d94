"""Score a whole table: token-budget batches sorted by length, inference mode, order restored.

Several ranks share the batches out; metrics are those of all logits, never averages.
"""

from __future__ import annotations

import numpy as np
import torch

from bertft.data.batch import collate
from bertft.data.features import FeatureTable
from bertft.data.order import evaluation_batches, prefetch
from bertft.models.precision import Precision
from bertft.models.runner import EncoderRunner
from bertft.tasks.task import BaseTask
from bertft.training.ranks import ALONE, Ranks

__all__ = ["evaluate", "predict_logits", "token_budget"]


def token_budget(device: torch.device) -> int:
    """Tokens a forward pass without gradients; more gain nothing on that kind of device."""
    return 65_536 if device.type == "cuda" else 4_096


def predict_logits(
    runner: EncoderRunner,
    table: FeatureTable,
    precision: Precision,
    budget: int | None = None,
    ranks: Ranks = ALONE,
) -> np.ndarray:
    """fp32 logits in the table's order: [rows, C] for sequence-level heads.

    Token-level heads give [tokens, C], the rows' tokens end to end. The batches depend on the
    table's lengths alone, so that the same rows give the same bits again, on any number of ranks.
    """
    model = runner.model
    trained = model.training
    model.eval()
    lengths = np.asarray(table.lengths)
    batches = evaluation_batches(lengths, budget or token_budget(precision.device))[ranks.own]
    starts = np.cumsum(lengths, dtype=np.int64) - lengths
    pieces: list[tuple[np.ndarray, np.ndarray]] = []
    try:
        with torch.inference_mode():
            for batch in prefetch(collate(table, indices, ()) for indices in batches):
                with precision.context():
                    logits = runner(batch.to(precision.device)).float().cpu().numpy()
                pieces.append((batch.index, logits))
    finally:
        model.train(trained)
    pieces = ranks.gather(pieces)
    if not pieces:
        return np.empty((0, 0), np.float32)
    size = len(lengths) if runner.level == "sequence" else int(lengths.sum())
    result = np.empty((size, *pieces[0][1].shape[1:]), np.float32)
    for index, logits in pieces:
        places = index if runner.level == "sequence" else _tokens(starts[index], lengths[index])
        result[places] = logits
    return result


def _tokens(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Places of the tokens of rows that start at ``starts``."""
    before = np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.repeat(starts, lengths) + np.arange(int(lengths.sum())) - before


def evaluate(
    runner: EncoderRunner,
    task: BaseTask,
    table: FeatureTable,
    precision: Precision,
    ranks: Ranks = ALONE,
) -> dict[str, float]:
    """All metrics of the task over the whole table."""
    logits = predict_logits(runner, table, precision, ranks=ranks)
    return ranks.told(lambda: task.metrics(logits, table))
