"""The paired bootstrap: would the difference stand on other validation rows?

    d_b = mean_s m(A_s, w_b) − mean_s m(B_s, w_b)       b = 1 … B, over the seeds s of each method

w_b draws the R rows R times with replacement, the same for every run, and m is the metric over the
drawn rows, not a mean of their scores. The interval holds the middle 95 % of d; p is twice the
share of draws in which the order is the other one or none, (1 + count) / (B + 1), at most 1.
It speaks of the rows alone: how far seeds scatter, the std beside the mean says.

Efron & Tibshirani 1993, ch. 13 and 16; Koehn 2004, §3 (paired, for a corpus metric).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Difference", "bootstrap_metrics", "paired_difference", "resample_weights"]

_AT_ONCE = 1 << 21  # weights held at a time
_LEVEL = 95.0

Metric = Callable[[np.ndarray], np.ndarray]  # weights [b, R] → values [b]


@dataclass(frozen=True)
class Difference:
    """``value`` on the rows as they are; the ``low`` and ``high`` end of its interval; ``p``."""

    value: float
    low: float
    high: float
    p: float


def resample_weights(rows: int, draws: int, seed: int = 0) -> Iterator[np.ndarray]:
    """How often each row stands in each draw: fp64 [b, rows], ``draws`` of them in pieces."""
    generator = np.random.default_rng(seed)
    size = max(1, _AT_ONCE // rows)
    for start in range(0, draws, size):
        count = min(size, draws - start)
        sampled_rows = generator.integers(rows, size=(count, rows))
        sampled_rows += np.arange(count)[:, None] * rows
        counts = np.bincount(sampled_rows.ravel(), minlength=count * rows)
        yield counts.reshape(count, rows).astype(np.float64)


def bootstrap_metrics(
    metrics: Sequence[Metric], rows: int, draws: int, seed: int = 0
) -> np.ndarray:
    """Values [metrics, 1 + draws]: on the rows as they are, then on each draw, the same for all."""
    pieces = [np.ones((1, rows)), *resample_weights(rows, draws, seed)]
    return np.stack([np.concatenate([metric(each) for each in pieces]) for metric in metrics])


def paired_difference(one: np.ndarray, other: np.ndarray) -> Difference:
    """Of two methods' values [seeds, 1 + draws]; draws without a value (NaN) are left out."""
    gap = one.mean(0) - other.mean(0)
    draws = gap[1:][np.isfinite(gap[1:])]
    if len(draws) == 0:
        return Difference(float(gap[0]), float("nan"), float("nan"), float("nan"))
    tail = (100 - _LEVEL) / 2
    low, high = np.percentile(draws, [tail, 100 - tail])
    opposite_sign = min((draws <= 0).sum(), (draws >= 0).sum())
    p = min(1.0, 2 * (1 + int(opposite_sign)) / (len(draws) + 1))
    return Difference(float(gap[0]), float(low), float(high), p)
