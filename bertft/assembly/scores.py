"""Rows through a model that is there, before and after: the checks of merge and export."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bertft.assembly.check_rows import made_rows, read_check_rows
from bertft.assembly.features import features_of, unlabelled_features
from bertft.assembly.manifest import read_manifest
from bertft.assembly.saved import Saved
from bertft.data.rows import Rows
from bertft.errors import MergeRefused
from bertft.training.evaluate import Answering, evaluate, predict_logits, scored

__all__ = ["check_rows", "compared", "difference", "score"]

_TOLERANCE = 1e-4


def check_rows(saved: Saved) -> tuple[Rows, str]:
    """Rows to compare on, and what they are: validation rows of the run, else made ones."""
    if saved.run is not None:
        digest = read_manifest(saved.run).get("check_rows")
        return read_check_rows(saved.run.check_rows, saved.data, digest), "validation rows"
    return made_rows(saved.facts.task), "made rows"


def score(
    saved: Saved, rows: Rows, runner: Answering | None = None
) -> tuple[np.ndarray, dict[str, float]]:
    """fp32 logits in the order of ``rows``, and the task's metrics, of rows with labels.

    ``runner`` answers in place of the saved model.
    """
    adapted, task, length = saved.adapted, saved.adapted.task, saved.facts.max_length
    runner = adapted.runner if runner is None else runner
    if task.supervised and not rows.labelled:
        table = unlabelled_features(rows, task, adapted.tokenizer, length, None)
        return predict_logits(runner, table, adapted.precision, prepare=task.asking), {}
    table = features_of({"check": rows}, task, adapted.tokenizer, length, None)["check"]
    logits = predict_logits(
        runner, table, adapted.precision, prepare=scored(task), columns=task.label_columns
    )
    if task.fixed_inputs:
        return logits, task.all_metrics(logits, table)
    return logits, evaluate(runner, task, table, adapted.precision)


def difference(before: np.ndarray, after: np.ndarray, what: str, where: str) -> float:
    """max |Δlogit|. MergeRefused unless it is at most 1e-4 · max(1, max |logit|)."""
    found = float(np.abs(after - before).max())
    largest = float(np.abs(before).max())
    if not np.isfinite(before).all():
        raise MergeRefused(
            f"the model answers with numbers that are not finite, before the {what} is made",
            where=where, hint="Nothing was written. Its weights are too large; train it again",
        )  # fmt: skip
    if not found <= _TOLERANCE * max(1.0, largest):  # so that NaN is refused too
        raise MergeRefused(
            f"the {what} would answer otherwise: max |Δlogit| = {found:.2e} on {len(before)}"
            f" rows, where |logit| is up to {largest:.3g}",
            where=where, hint="Nothing was written. This is worth a bug report",
        )  # fmt: skip
    return found


def compared(metric: str, before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """``; accuracy there 0.9123 before, 0.9123 after``, of rows that have it."""
    if metric not in before:
        return ""
    return f"; {metric} there {before[metric]:.4f} before, {after[metric]:.4f} after"
