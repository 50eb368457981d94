"""Fit, store and apply the prediction sets of a model (``bertft.tasks.shared.conformal``).

    validation rows = first half (calibration) + second half (report), by data.seed

``set_metrics`` never reports calibration rows: if the rows of a table are the validation rows of
the run, by their fingerprint, only the second half counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bertft.data.features import FeatureTable
from bertft.data.halves import first_half
from bertft.errors import UsageError
from bertft.tasks.shared.conformal import ConformalSets, conformal_quantile, required_rows
from bertft.tasks.task import BaseTask
from bertft.utils.messages import shorten

__all__ = [
    "check_calibration_rows",
    "fit_sets",
    "observed_sets",
    "parse_sets",
]

_FIELDS: Mapping[str, Any] = {
    "coverage": lambda value: type(value) is float and 0 < value < 1,
    "quantile": lambda value: type(value) is float and 0 <= value < 1e300,
    "rows": lambda value: type(value) is int and value > 0,
    "seed": lambda value: type(value) is int and value >= 0,
    "fingerprint": lambda value: isinstance(value, str),
}


def check_calibration_rows(rows: int | None, coverage: float) -> None:
    """UsageError if half of the validation ``rows`` (None: there are none) is too few."""
    required = required_rows(coverage)
    if rows is None:
        raise UsageError(
            "conformal needs validation rows, and the run has none",
            where="calibrate",
            hint="Set data.validation=<file>, or data.validation_fraction",
        )
    if rows // 2 < required:
        raise UsageError(
            f"{coverage} needs at least {required:,} calibration rows, which are half of the"
            f" validation rows, and there are {rows // 2:,} ({rows:,} validation rows)",
            where="coverage",
            hint=f"Use at least {2 * required:,} validation rows, or a lower coverage",
        )


def fit_sets(
    task: BaseTask, logits: np.ndarray, table: FeatureTable, coverage: float, seed: int
) -> ConformalSets:
    """The rule of the prediction sets, from the first half of the rows of ``table``."""
    is_calibration = first_half(len(table), seed)
    scores = task.conformal_scores(logits, table)[is_calibration]
    quantile = conformal_quantile(scores, coverage)
    return ConformalSets(coverage, quantile, len(scores), seed, table.rows.fingerprint)


def observed_sets(task: BaseTask, logits: np.ndarray, table: FeatureTable) -> dict[str, float]:
    """Coverage and size of the sets on ``table``, without calibration rows; empty without sets."""
    sets = task.conformal
    if sets is None or not np.isfinite(logits).all():
        return {}
    is_reported = np.ones(len(table), bool)
    if sets.fingerprint == table.rows.fingerprint:
        is_reported = ~first_half(len(table), sets.seed)
    return task.set_metrics(logits, table, is_reported)


def parse_sets(value: Any) -> ConformalSets | None:
    """The rule in a file; None for null. ValueError if it is invalid."""
    if value is None:
        return None
    if not isinstance(value, dict) or not _FIELDS.keys() <= value.keys():
        raise ValueError(f"invalid prediction sets {shorten(repr(value))}")
    for name, is_valid in _FIELDS.items():
        if not is_valid(value[name]):
            raise ValueError(f"invalid value for {name!r} of the prediction sets")
    return ConformalSets(**{name: value[name] for name in _FIELDS})
