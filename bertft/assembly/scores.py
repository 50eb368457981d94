"""Rows through a model that is there: logits and metrics, for the checks of merge and export."""

from __future__ import annotations

import numpy as np

from bertft.assembly.features import features_of
from bertft.assembly.saved import Saved
from bertft.data.rows import Rows
from bertft.training.evaluate import evaluate, predict_logits, scored

__all__ = ["score"]


def score(saved: Saved, rows: Rows) -> tuple[np.ndarray, dict[str, float]]:
    """fp32 logits in the order of ``rows``, and the task's metrics."""
    adapted = saved.adapted
    tables = features_of(
        {"check": rows}, adapted.task, adapted.tokenizer, saved.facts.max_length, None
    )
    task, table = adapted.task, tables["check"]
    logits = predict_logits(
        adapted.runner, table, adapted.precision,
        prepare=scored(task), columns=task.label_columns,
    )  # fmt: skip
    if task.fixed_inputs:
        return logits, task.metrics(logits, table)
    return logits, evaluate(adapted.runner, task, table, adapted.precision)
