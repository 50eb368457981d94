"""Rows through a model that is there, before and after: the checks of merge and export."""

from __future__ import annotations

import numpy as np

from bertft.assembly.features import features_of
from bertft.assembly.saved import Saved
from bertft.data.rows import Rows
from bertft.errors import MergeRefused
from bertft.training.evaluate import evaluate, predict_logits, scored

__all__ = ["difference", "score"]

_TOLERANCE = 1e-4


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


def difference(before: np.ndarray, after: np.ndarray, what: str, where: str) -> float:
    """max |Δlogit|. MergeRefused unless it is at most 1e-4 · max(1, max |logit|)."""
    found = float(np.abs(after - before).max())
    largest = float(np.abs(before).max())
    if not found <= _TOLERANCE * max(1.0, largest):  # so that NaN is refused too
        raise MergeRefused(
            f"the {what} would answer otherwise: max |Δlogit| = {found:.2e} on {len(before)}"
            f" rows, where |logit| is up to {largest:.3g}",
            where=where, hint="Nothing was written. This is worth a bug report",
        )  # fmt: skip
    return found
