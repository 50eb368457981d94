"""Knowledge distillation: a student learns a teacher's answers beside the labels.

    L = w_hard · hard + λ · T² KL(teacher ‖ student)  (+ hidden + attention + relation terms)

Hinton et al. 2015 (arXiv 1503.02531, §2). The task owns its soft loss, this part the teacher, the
temperature and the weights. The teacher itself is opened elsewhere and handed to ``Distill.bind``.
"""

from __future__ import annotations

from typing import Any

from bertft.config.parts.distill import Settings
from bertft.methods.distill.part import Distill

__all__ = ["Distill", "build"]


def build(settings: Settings, method: Any, rate: float | None) -> Distill:
    """``rate`` overrides that of the projections."""
    return Distill(settings, rate or settings.learning_rate)
