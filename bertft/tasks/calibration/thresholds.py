"""The threshold τ that suits known answers best: what scores τ or more is given.

Every cut between two neighbouring scores is tried, at their midpoint, with those below the lowest
and above the highest (midpoints to 0 and 1), and 0.5. Of cuts that are equally good the one
nearest 0.5 is taken, so that a threshold moves only where that gains.

    f1_micro = 2 Σ_c TP_c / Σ_c (true_c + given_c)        over the labels c

is the largest of all combinations by Dinkelbach's method (1967, Management Science 13): with λ
fixed each label maximises 2 TP_c − λ given_c; then λ ← f1_micro, until it stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bertft.tasks.shared.agreement import f1

__all__ = ["Cuts", "best", "best_micro_f1", "cuts"]


@dataclass(frozen=True)
class Cuts:
    """``thresholds`` [m]; of ``true`` answers among ``rows``, ``given`` and ``both`` at each."""

    thresholds: np.ndarray
    given: np.ndarray
    both: np.ndarray
    true: int
    rows: int

    def f1(self) -> np.ndarray:
        return f1(self.both, np.full_like(self.both, self.true), self.given)


def cuts(scores: np.ndarray, truth: np.ndarray) -> Cuts:
    """Of ``scores`` fp64 in [0, 1] and ``truth`` bool, both [n]."""
    order = np.argsort(scores, kind="stable")
    ascending, right = scores[order], truth[order]
    levels = np.concatenate([[0.0], np.unique(ascending), [1.0]])
    low, high = levels[:-1], levels[1:]
    middles = low + (high - low) / 2
    # Between neighbouring numbers there may be no other: the upper one then divides as well.
    thresholds = np.unique([*np.where(middles > low, middles, high), 0.5])
    thresholds = thresholds[(thresholds > 0) & (thresholds < 1)]
    below = np.searchsorted(ascending, thresholds, side="left")
    true_below = np.concatenate([[0], np.cumsum(right)])[below]
    true = int(right.sum())
    return Cuts(thresholds, len(scores) - below, true - true_below, true, len(scores))


def best(values: np.ndarray, thresholds: np.ndarray) -> int:
    """Place of the largest of ``values`` [m]; on a tie that of the threshold nearest 0.5."""
    places = np.flatnonzero(values == values.max())
    return int(places[np.argmin(np.abs(thresholds[places] - 0.5))])


def best_micro_f1(each: Sequence[Cuts]) -> list[int]:
    """Place of each label's cut, together of the largest micro F1."""
    places = [best(-np.abs(label.thresholds - 0.5), label.thresholds) for label in each]
    value = _micro(each, places)
    while True:
        found = [best(2 * c.both - value * c.given, c.thresholds) for c in each]
        higher = _micro(each, found)
        if not higher > value:
            return places
        places, value = found, higher


def _micro(each: Sequence[Cuts], places: Sequence[int]) -> float:
    both = sum(int(c.both[k]) for c, k in zip(each, places, strict=True))
    given = sum(int(c.given[k]) for c, k in zip(each, places, strict=True))
    total = given + sum(c.true for c in each)
    return 2 * both / total if total else 0.0
