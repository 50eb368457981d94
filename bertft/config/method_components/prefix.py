"""``method.prefix``: trained keys and values in every layer, or trained input embeddings."""

from __future__ import annotations

from dataclasses import dataclass

from bertft.config.setting import MAX_LEARNING_RATE, setting

__all__ = ["PrefixConfig"]


@dataclass
class PrefixConfig:
    """Prefix tuning (trained keys and values in every layer) or prompt tuning."""

    kind: str = setting(
        "key_value",
        "key_value: trained keys and values in every layer. prompt: trained vectors before the"
        " input embeddings.",
        choices=("key_value", "prompt"),
    )
    length: int = setting(
        16,
        "Number of vectors per layer (key_value) or before the input (prompt).",
        at_least=1,
        at_most=4096,
    )
    learning_rate: float = setting(
        3e-2, "Peak learning rate of the prefix.", above=0, at_most=MAX_LEARNING_RATE
    )
    start_scale: float = setting(
        1.0,
        "key_value: standard deviation of the initial vectors. A small value changes the model less"
        " at first, which suits a combination with another component.",
        above=0,
    )
    mlp: bool = setting(
        False, "key_value: train the prefix through an MLP (Embedding → Linear → tanh → Linear)."
    )
    mlp_hidden: int = setting(
        512,
        "Hidden size of the MLP. Only with method.prefix.mlp=true.",
        at_least=1,
        at_most=8192,
    )
    shift_positions: bool = setting(
        False,
        "key_value: start the position ids of the sequence after the prefix, as in P-tuning v2.",
    )
    dropout: float = setting(0.0, "Dropout probability of the prefix.", at_least=0, below=1)
