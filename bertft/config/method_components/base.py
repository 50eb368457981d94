"""``method.base``: the pretrained weights that are trained."""

from __future__ import annotations

from dataclasses import dataclass

from bertft.config.setting import MAX_LEARNING_RATE, setting

__all__ = ["TrainableBaseConfig"]


@dataclass
class TrainableBaseConfig:
    """Pretrained weights to train."""

    train: str = setting(
        "everything",
        "Pretrained weights to train in addition to the task head.",
        choices=("nothing", "biases", "last_k", "everything"),
    )
    last_k: int | None = setting(
        None,
        "Number of top layers to train. Only with method.base.train=last_k, which requires it.",
        at_least=1,
    )
    learning_rate: float = setting(
        5e-5, "Peak learning rate of the pretrained weights.", above=0, at_most=MAX_LEARNING_RATE
    )
    layer_decay: float = setting(
        1.0,
        "Layer-wise learning rate decay: the learning rate of a layer divided by that of the layer "
        "above it. The embeddings are below the bottom layer. 1: all have the same rate.",
        above=0,
        at_most=1,
    )
