"""Split-conformal prediction: sets of answers that contain the true one with a stated probability.

    s_i = s(x_i, y_i)                        scores of n calibration rows
    q = the k-th smallest s_i,               k = ⌈(n + 1) · coverage⌉ ≤ n
    set(x) = {y : s(x, y) ≤ q}               coverage ≤ P(y ∈ set(x))

    classification   s = 1 − p_y                           LAC: the classes with p ≥ 1 − q
    multi_label      s = 1 − min p_l over the true labels  the labels with p ≥ 1 − q: they contain
                                                           all true labels of a row
    regression       s = |z − y|                           the interval z ± q

The probability is over calibration rows and new rows together (marginal), and the rows must be
exchangeable. Without ties, the number of m new rows whose set contains the answer has the
beta-binomial distribution with parameters m, k and n + 1 − k.

Vovk, Gammerman & Shafer 2005; Lei et al. 2018 (arXiv 1604.04173) for regression; Sadinle, Lei &
Wasserman 2019 (arXiv 1609.00451) for LAC; Angelopoulos & Bates 2021 (arXiv 2107.07511).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

__all__ = ["ConformalSets", "conformal_quantile", "conformal_rank", "required_rows"]


@dataclass(frozen=True)
class ConformalSets:
    """A fitted rule: a set contains the answers with a score of at most ``quantile``.

    Attributes:
        coverage: The probability with which a set contains the true answer.
        quantile: q.
        rows: The number of calibration rows.
        seed: Seed of the halves of the validation rows. The first half was used for calibration.
        fingerprint: Identifies these validation rows.
    """

    coverage: float
    quantile: float
    rows: int
    seed: int
    fingerprint: str


def required_rows(coverage: float) -> int:
    """The smallest number of calibration rows for ``coverage``: ⌈1 / (1 − coverage)⌉ − 1."""
    return math.ceil(1 / (1 - _exact(coverage))) - 1


def conformal_rank(rows: int, coverage: float) -> int:
    """k = ⌈(rows + 1) · coverage⌉. ValueError if there are too few rows."""
    rank = math.ceil((rows + 1) * _exact(coverage))
    if rank > rows:
        raise ValueError(f"{rows} rows are too few for a coverage of {coverage}")
    return rank


def conformal_quantile(scores: np.ndarray, coverage: float) -> float:
    """The k-th smallest of ``scores`` [n]. ValueError if there are too few."""
    rank = conformal_rank(len(scores), coverage)
    return float(np.partition(scores, rank - 1)[rank - 1])


def _exact(coverage: float) -> Fraction:
    """The decimal number that was written: 0.9 · (n + 1) in floats can exceed a whole number."""
    return Fraction(repr(float(coverage)))
