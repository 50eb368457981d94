"""Successive halving: which trials are trained up to which rung.

    rung        1     2     3     4         of 8 evaluations and 16 trials
    steps      1/8   1/4   1/2    1         of the schedule of the complete run
    trials     16     8     4     2

Every trial is trained up to the first rung. At each further rung, the better half of the trials of
the rung before continues. A trial is ranked by the best value of the metric so far; of equal values
by the validation loss at that evaluation, then by its number.

Early in training, a validation loss may not be below that of the best prediction that ignores the
input, so that it does not show that the model uses the input. Then its metric can be chance: the F1
of random tags exceeds that of a model that does not predict a tag yet. Such trials are ranked after
the others, by their loss.

Jamieson & Talwalkar 2016 (arXiv 1502.07943).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

__all__ = [
    "REDUCTION",
    "RungResult",
    "Trial",
    "format_fraction",
    "promoted",
    "rank",
    "rung_fractions",
    "wave_ends",
]

REDUCTION = 2
_MAX_STARTUP = 10  # random proposals before the sampler has a model


@dataclass(frozen=True)
class RungResult:
    """The best ``value`` of the metric up to a rung, and the validation ``loss`` with it.

    If some evaluations are informed, the value is the best of those.

    Only the default has results whose ``value`` is NaN: at rungs without a finite metric, if it has
    one later. ``is_informed``: the loss is below that of the best prediction that ignores the
    input, or is not known. The result of a complete run counts as informed: its metric decides.
    """

    value: float
    loss: float | None
    is_informed: bool = True

    def sort_key(self, lower_is_better: bool) -> tuple[bool, float, float]:
        """Ascending from the best result to the worst one."""
        value = (self.value if lower_is_better else -self.value) if self.is_informed else 0.0
        return not self.is_informed, value, math.inf if self.loss is None else self.loss


@dataclass
class Trial:
    """One configuration.

    Attributes:
        params: setting → value, as on the command line.
        results: one per rung that the trial has reached.
        folder: name of the run folder; None before the first run.
        error: why the trial failed; it is not trained further.
    """

    number: int
    params: dict[str, str]
    results: list[RungResult] = field(default_factory=list)
    folder: str | None = None
    error: str | None = None


def rung_fractions(evaluations: int) -> list[float]:
    """The rungs as fractions of the steps, ascending, up to 1; each at one of the evaluations.

    They do not depend on the number of trials, so that a search can be continued with more.
    """
    counts = [evaluations]
    while counts[-1] >= REDUCTION:
        counts.append(counts[-1] // REDUCTION)
    return [count / evaluations for count in reversed(counts)]


def format_fraction(fraction: float) -> str:
    """``1/8``; ``all`` for 1."""
    return "all" if fraction == 1 else str(Fraction(fraction).limit_denominator(10_000))


def wave_ends(trials: int | None) -> list[int]:
    """The numbers of trials after each wave of proposals.

    The proposals of a wave are made together, from the results of the earlier waves. The first wave
    is random. The waves do not depend on the launcher, and so neither do the proposals.
    """
    total = 10_000 if trials is None else trials
    first = min(_MAX_STARTUP, math.ceil(total / 2))
    size = math.ceil(total / 8) if trials is not None else _MAX_STARTUP // 2
    return [*range(first, total, size), total]


def rank(trials: Sequence[Trial], rung: int, lower_is_better: bool) -> list[Trial]:
    """The trials with a result at ``rung`` (from 0), best first."""
    return sorted(
        (trial for trial in trials if len(trial.results) > rung),
        key=lambda trial: (*trial.results[rung].sort_key(lower_is_better), trial.number),
    )


def promoted(trials: Sequence[Trial], rung: int, lower_is_better: bool) -> list[Trial]:
    """The trials that are trained up to ``rung`` (from 0), best first; all of them for rung 0."""
    chosen = list(trials)
    for earlier in range(rung):
        count = max(1, len(trials) // REDUCTION ** (earlier + 1))
        chosen = rank(chosen, earlier, lower_is_better)[:count]
    return chosen
