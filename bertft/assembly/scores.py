"""Rows through a model that is there, before and after: the checks of merge and export."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bertft.assembly.check_rows import sample_check_rows, read_check_rows
from bertft.assembly.features import build_features, build_unlabelled_features
from bertft.assembly.manifest import read_manifest
from bertft.assembly.saved import LoadedModel
from bertft.data.rows import Rows
from bertft.errors import MergeError
from bertft.training.evaluate import LogitsModel, evaluate, predict_logits, evaluation_transform

__all__ = ["load_check_rows", "describe_metric_change", "check_logit_difference", "score_rows"]

_TOLERANCE = 1e-4


def load_check_rows(loaded: LoadedModel) -> tuple[Rows, str]:
    """Rows to compare on, and what they are: validation rows of the run, else made ones."""
    if loaded.run is not None:
        digest = read_manifest(loaded.run).get("check_rows")
        return read_check_rows(loaded.run.check_rows_path, loaded.data, digest), "validation rows"
    return sample_check_rows(loaded.info.task), "made rows"


def score_rows(
    loaded: LoadedModel, rows: Rows, runner: LogitsModel | None = None
) -> tuple[np.ndarray, dict[str, float]]:
    """fp32 logits in the order of ``rows``, and the task's metrics, of rows with labels.

    ``runner`` answers in place of the saved model.
    """
    task_model, task, length = loaded.task_model, loaded.task_model.task, loaded.info.max_length
    runner = task_model.runner if runner is None else runner
    if task.needs_labels and not rows.has_labels:
        table = build_unlabelled_features(rows, task, task_model.tokenizer, length, None)
        return predict_logits(runner, table, task_model.precision, transform=task.predict_transform), {}
    table = build_features({"check": rows}, task, task_model.tokenizer, length, None)["check"]
    logits = predict_logits(
        runner, table, task_model.precision, transform=evaluation_transform(task), columns=task.label_columns
    )
    if task.has_fixed_inputs:
        return logits, task.compute_all_metrics(logits, table)
    return logits, evaluate(runner, task, table, task_model.precision)


def check_logit_difference(before: np.ndarray, after: np.ndarray, what: str, where: str) -> float:
    """max |Δlogit|. MergeRefused unless it is at most 1e-4 · max(1, max |logit|)."""
    max_difference = float(np.abs(after - before).max())
    max_logit = float(np.abs(before).max())
    if not np.isfinite(before).all():
        raise MergeError(
            f"the model answers with numbers that are not finite, before the {what} is made",
            where=where, hint="Nothing was written. Its weights are too large; train it again",
        )  # fmt: skip
    if not max_difference <= _TOLERANCE * max(1.0, max_logit):  # so that NaN is refused too
        raise MergeError(
            f"the {what} would answer otherwise: max |Δlogit| = {max_difference:.2e} on {len(before)}"
            f" rows, where |logit| is up to {max_logit:.3g}",
            where=where, hint="Nothing was written. This is worth a bug report",
        )  # fmt: skip
    return max_difference


def describe_metric_change(metric: str, before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """``; accuracy there 0.9123 before, 0.9123 after``, of rows that have it."""
    if metric not in before:
        return ""
    return f"; {metric} there {before[metric]:.4f} before, {after[metric]:.4f} after"
