"""Knowledge distillation: a student learns a teacher's answers beside the labels.

    L = w_hard · hard + λ · T² KL(teacher ‖ student)  (+ hidden + attention + relation terms)

Hinton et al. 2015 (arXiv 1503.02531, §2). The task owns its soft loss, this part the teacher, the
temperature and the weights. The teacher itself is opened elsewhere and handed to ``Distill.bind``.
"""

from __future__ import annotations

from typing import Any

from bertft.config.method_components.distill import DistillConfig
from bertft.distill.component import Distillation

__all__ = ["Distillation", "build"]


def build(settings: DistillConfig, method: Any, learning_rate: float | None) -> Distillation:
    """``learning_rate`` overrides that of the projections."""
    return Distillation(settings, learning_rate or settings.learning_rate)
