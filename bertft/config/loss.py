"""``loss``: options of the classification loss. Evaluation uses the plain cross entropy.

``bertft.tasks.shared.losses`` has the equation.
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
        "Weight of each class: balanced, {label: weight} (1 for labels without an entry), or a list"
        " in the order of the labels. multi_label: weight of the positive rows of each label.",
    )
    label_smoothing: float = setting(
        0.0,
        "Label smoothing ε: targets are (1 − ε) · label + ε / number of classes (multi_label:"
        " + ε / 2).",
        at_least=0,
        below=1,
    )
    focal_gamma: float = setting(
        0.0, "γ of the focal loss −(1 − p)^γ log p. 0: cross entropy.", at_least=0
    )
