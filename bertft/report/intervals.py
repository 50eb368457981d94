"""Confidence intervals of the metrics of one run: a bootstrap over the rows.

    m_b = m(w_b)        b = 1 … B, where w_b are the weights of a resample of the R rows

The 95 % interval holds the middle 95 % of the m_b. It describes the uncertainty from the choice of
the rows, not from the seed of the training. ``report.compare.bootstrap`` compares two runs.

Efron & Tibshirani 1993, ch. 13.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bertft.data.features import FeatureTable
from bertft.report.compare.bootstrap import confidence_interval, resample_weights
from bertft.tasks.task import BaseTask

__all__ = [
    "DRAWS",
    "MAX_ROWS",
    "Intervals",
    "intervals_of_draws",
    "metric_intervals",
    "split_intervals",
]

DRAWS = 1_000
MAX_ROWS = 200_000  # more rows take minutes, and their intervals are narrower than ±0.003
_MIN_ROWS = 2

Intervals = Mapping[str, tuple[float, float]]  # metric → ends of its 95 % interval


def metric_intervals(
    task: BaseTask,
    outputs: np.ndarray | None,
    features: FeatureTable | None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Intervals:
    """The 95 % intervals of the metrics of ``outputs`` on the rows of ``features``.

    Empty if there are no outputs, if the task has no statistics per row, or for more than 200,000
    rows. A metric that is undefined in a resample is left out, and one that is equal in all: an
    interval of width 0 (accuracy 1 on a few rows) would hide the uncertainty.
    """
    if outputs is None or features is None:
        return {}
    per_row = task.per_row_statistics(outputs, features)
    if per_row is None or not _MIN_ROWS <= len(per_row[0]) <= MAX_ROWS:
        return {}
    statistics = per_row[1]
    chunks = [
        task.metrics_from_statistics(statistics, weights)
        for weights in resample_weights(len(statistics), draws, seed)
    ]
    return intervals_of_draws(chunks)


def intervals_of_draws(chunks: Sequence[Mapping[str, np.ndarray]]) -> Intervals:
    """The 95 % intervals of metrics, from chunks of metric → values of resamples [draws].

    A metric is left out that is undefined in a resample, or equal in all.
    """
    intervals = {}
    for name in chunks[0]:
        values = np.concatenate([chunk[name] for chunk in chunks])
        if np.isfinite(values).all() and np.ptp(values) > 0:
            intervals[name] = confidence_interval(values)
    return intervals


def split_intervals(
    task: BaseTask, outputs: Mapping[str, np.ndarray], features: Mapping[str, FeatureTable]
) -> dict[str, Intervals]:
    """Split → intervals of its metrics, for each split of ``outputs``."""
    return {
        split: metric_intervals(task, values, features.get(split))
        for split, values in outputs.items()
    }
