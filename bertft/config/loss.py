"""``loss``: what training minimises beside the plain cross entropy; evaluation keeps the plain one.

The equation is that of ``bertft.tasks.shared.losses``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bertft.config.setting import setting

__all__ = ["LossConfig"]


@dataclass
class LossConfig:
    """``loss``"""

    class_weights: Any = setting(
        None,
        "Weight of each class: balanced, {label: weight} (1 where not named) or a list in the order"
        " of the labels; of multi_label that of a label where it is true.",
    )
    label_smoothing: float = setting(
        0.0,
        "ε of (1 − ε) · label + ε / classes; of multi_label + ε / 2.",
        at_least=0,
        below=1,
    )
    focal_gamma: float = setting(
        0.0, "γ of the focal loss, −(1 − p)^γ log p; 0: the cross entropy.", at_least=0
    )
