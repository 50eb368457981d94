"""What of the pretrained base trains."""

from __future__ import annotations

from dataclasses import dataclass

from bertft.config.setting import MAX_LEARNING_RATE, setting

__all__ = ["TrainableBaseConfig"]


@dataclass
class TrainableBaseConfig:
    """``method.base``"""

    train: str = setting(
        "everything",
        "What of the base trains, beside the task head.",
        choices=("nothing", "biases", "last_k", "everything"),
    )
    last_k: int | None = setting(
        None, "How many of the top layers train; only with train=last_k.", at_least=1
    )
    learning_rate: float = setting(
        5e-5, "Peak learning rate of the base's weights.", above=0, at_most=MAX_LEARNING_RATE
    )
