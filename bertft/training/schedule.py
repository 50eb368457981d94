"""Learning-rate schedules as pure functions of the step.

linear warm-up over w = round(warmup · T) steps, then with u = (t − w) / (T − w):
linear 1 − u        cosine ½ (1 + cos πu)        constant 1
"""

from __future__ import annotations

import math

__all__ = ["lr_lambda"]


def lr_lambda(step: int, total_steps: int, warmup_fraction: float, schedule: str) -> float:
    """The factor on the peak rate for the ``step``-th of ``total_steps`` updates (from 1), in (0, 1].

    The first update of the decay runs at the peak, and the last one is still above 0:
    u counts the updates that came before.
    """
    warmup_steps = round(warmup_fraction * total_steps)
    if step <= warmup_steps:
        return step / warmup_steps
    if schedule == "constant":
        return 1.0
    decay_progress = (step - 1 - warmup_steps) / max(1, total_steps - warmup_steps)
    if schedule == "linear":
        return 1.0 - decay_progress
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * decay_progress))
    raise ValueError(f"unknown schedule {schedule!r}")
