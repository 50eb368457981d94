"""Knowledge distillation: a student learns from a teacher's outputs as well as from labels.

    L = w_hard · hard + λ · T² KL(teacher ‖ student)  (+ hidden + attention + relation losses)

The task defines the soft loss; the component holds the teacher, the temperature and the weights.
``bertft.pipeline`` opens the teacher and passes it to ``Distillation.bind_teacher``.

Reference: Hinton et al. 2015, section 2 (arXiv 1503.02531).
"""

from __future__ import annotations

from bertft.config.method import MethodConfig
from bertft.config.method_components.distill import DistillConfig
from bertft.distill.component import Distillation

__all__ = ["Distillation", "build"]


def build(
    settings: DistillConfig, method: MethodConfig, learning_rate: float | None
) -> Distillation:
    """Build the component; ``learning_rate`` overrides the learning rate of the projections."""
    return Distillation(settings, learning_rate or settings.learning_rate)
