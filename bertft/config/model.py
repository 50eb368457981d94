"""``model``: which encoder, from where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bertft.config.setting import MISSING, setting

__all__ = ["ModelConfig"]


@dataclass
class ModelConfig:
    """``model``"""

    name: str = setting(MISSING, "The preset's name.")
    path: str | None = setting(
        None,
        "A folder, a Hub id, a bertft run, or all-MiniLM-L6-v2 (found in the demo extra). "
        "Null only with weights=random and an architecture.",
    )
    revision: str | None = setting(None, "Branch, tag or commit on the Hub.")
    tokenizer: str | None = setting(None, "A folder or Hub id; null: the model's own.")
    weights: str = setting(
        "pretrained",
        "random: the architecture with fresh weights, for tests and benchmarks.",
        choices=("pretrained", "random"),
    )
    architecture: Any = setting(
        {}, "Overrides of the model's config (model_type, hidden_size, ...); weights=random only."
    )
    dropout: float | None = setting(
        None, "Hidden dropout; null: the model's own.", at_least=0, below=1
    )
    attention_dropout: float | None = setting(
        None, "Dropout on attention probabilities; null: the model's own.", at_least=0, below=1
    )
    trust_remote_code: bool = setting(False, "Run code that comes with a Hub model.")
