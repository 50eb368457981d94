"""Learning-rate schedules as pure functions of the step.

linear warm-up over w = round(warmup · T) steps, then with u = (t − w) / (T − w):
linear 1 − u        cosine ½ (1 + cos πu)        constant 1
"""

from __future__ import annotations

import math

__all__ = ["factor"]


def factor(step: int, total: int, warmup: float, kind: str) -> float:
    """The factor on the peak rate for the ``step``-th of ``total`` updates (from 1), in (0, 1].

    The first update of the decay runs at the peak, and the last one is still above 0:
    u counts the updates that came before.
    """
    ramp = round(warmup * total)
    if step <= ramp:
        return step / ramp
    if kind == "constant":
        return 1.0
    done = (step - 1 - ramp) / max(1, total - ramp)
    if kind == "linear":
        return 1.0 - done
    if kind == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * done))
    raise ValueError(f"unknown schedule {kind!r}")
