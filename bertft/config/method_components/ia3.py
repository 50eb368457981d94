"""``method.ia3``: trained factors of keys, values and feed-forward activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bertft.config.setting import MAX_LEARNING_RATE, setting

__all__ = ["IA3Config"]


@dataclass
class IA3Config:
    """IA³: trained factors of keys, values and feed-forward activations."""

    targets: Any = setting(
        ["key", "value", "ffn_out"],
        "Linear layers with trained factors: roles (query, key, value, attention_output, ffn_in, "
        "ffn_out), all_linear, or module names.",
    )
    feedforward: Any = setting(
        ["ffn_out"],
        "Layers of method.ia3.targets whose input is scaled. The output of the others is scaled."
        " []: none.",
    )
    learning_rate: float = setting(
        1e-2, "Peak learning rate of the factors.", above=0, at_most=MAX_LEARNING_RATE
    )
