"""Trained keys and values before the sequence's own, in every layer; or a soft prompt."""

from __future__ import annotations

from dataclasses import dataclass

from bertft.config.setting import MAX_LEARNING_RATE, setting

__all__ = ["PrefixConfig"]


@dataclass
class PrefixConfig:
    """``method.prefix``"""

    kind: str = setting(
        "key_value",
        "key_value: per-layer keys and values. prompt: vectors before the input embeddings.",
        choices=("key_value", "prompt"),
    )
    length: int = setting(
        16, "Vectors a layer (key_value) or before the input (prompt).", at_least=1, at_most=4096
    )
    learning_rate: float = setting(
        3e-2, "Peak learning rate of the prefix.", above=0, at_most=MAX_LEARNING_RATE
    )
    start_scale: float = setting(
        1.0,
        "key_value: standard deviation of the vectors at the start; a small one disturbs the base "
        "less, which suits a prefix beside another part.",
        above=0,
    )
    mlp: bool = setting(
        False, "Train the prefix through an MLP (Embedding → Linear → tanh → Linear)."
    )
    mlp_hidden: int = setting(512, "Width of that MLP's hidden layer.", at_least=1, at_most=8192)
    shift_positions: bool = setting(
        False, "Let the sequence's positions start after the prefix, as P-tuning v2 does."
    )
    dropout: float = setting(0.0, "Dropout on the prefix.", at_least=0, below=1)
