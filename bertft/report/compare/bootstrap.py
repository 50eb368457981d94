"""The paired bootstrap: is the difference between two methods due to the choice of rows?

    d_b = mean_s m(A_s, w_b) − mean_s m(B_s, w_b)       b = 1 … B, over the seeds s of each method

w_b are the weights of one resample: R rows drawn from R with replacement, the same for every run.
m is the metric over the resample, not a mean of row scores. The 95 % interval holds the middle
95 % of d. p is 2 · (1 + count) / (B + 1), at most 1, where count is the number of resamples in
which the order of the two methods is reversed or equal. Interval and p describe the uncertainty
from the rows only; the standard deviation next to the mean describes that from the seeds.

Efron & Tibshirani 1993, ch. 13 and 16; Koehn 2004, §3 (paired, for a corpus metric).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = [
    "Difference",
    "bootstrap_metrics",
    "confidence_interval",
    "paired_difference",
    "resample_weights",
]

_MAX_CHUNK_WEIGHTS = 1 << 21  # weights in memory at a time
_PERCENTILES = (2.5, 97.5)  # the ends of a 95 % interval

Metric = Callable[[np.ndarray], np.ndarray]  # weights [b, R] → values [b]


@dataclass(frozen=True)
class Difference:
    """``value`` on the original rows, the ends of its 95 % interval, and its p value."""

    value: float
    low: float
    high: float
    p: float


def resample_weights(rows: int, draws: int, seed: int = 0) -> Iterator[np.ndarray]:
    """How often each row is in each resample: chunks of fp64 [b, rows], ``draws`` in total."""
    generator = np.random.default_rng(seed)
    size = max(1, _MAX_CHUNK_WEIGHTS // rows)
    for start in range(0, draws, size):
        count = min(size, draws - start)
        sampled_rows = generator.integers(rows, size=(count, rows))
        sampled_rows += np.arange(count)[:, None] * rows
        counts = np.bincount(sampled_rows.ravel(), minlength=count * rows)
        yield counts.reshape(count, rows).astype(np.float64)


def confidence_interval(values: np.ndarray) -> tuple[float, float]:
    """The ends of the 95 % interval of the ``values`` [draws] of a metric."""
    low, high = np.percentile(values, _PERCENTILES)
    return float(low), float(high)


def bootstrap_metrics(
    metrics: Sequence[Metric], rows: int, draws: int, seed: int = 0
) -> np.ndarray:
    """Values [metrics, 1 + draws]: on the original rows, then on each resample.

    All metrics share the same resamples.
    """
    chunks = [np.ones((1, rows)), *resample_weights(rows, draws, seed)]
    return np.stack([np.concatenate([metric(chunk) for chunk in chunks]) for metric in metrics])


def paired_difference(one: np.ndarray, other: np.ndarray) -> Difference:
    """The difference of two methods from their values [seeds, 1 + draws]; NaN draws are ignored."""
    differences = one.mean(0) - other.mean(0)
    value, draws = float(differences[0]), differences[1:][np.isfinite(differences[1:])]
    if len(draws) == 0:
        return Difference(value, math.nan, math.nan, math.nan)
    reversed_order = min((draws <= 0).sum(), (draws >= 0).sum())
    p = min(1.0, 2 * (1 + int(reversed_order)) / (len(draws) + 1))
    return Difference(value, *confidence_interval(draws), p)
