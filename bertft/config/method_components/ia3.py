"""Trained factors of keys, values and the feed-forward layer's activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bertft.config.setting import MAX_LEARNING_RATE, setting

__all__ = ["Settings"]


@dataclass
class Settings:
    """``method.ia3``"""

    targets: Any = setting(
        ["key", "value", "ffn_out"],
        "Linear layers with trained factors: roles (query, key, value, attention_output, ffn_in, "
        "ffn_out), all_linear, or names of modules.",
    )
    feedforward: Any = setting(
        ["ffn_out"],
        "Those of targets whose input is scaled; of the others it is the output. [] for none.",
    )
    learning_rate: float = setting(
        1e-2, "Peak learning rate of the factors.", above=0, at_most=MAX_LEARNING_RATE
    )
