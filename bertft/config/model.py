"""``model``: the pretrained encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bertft.config.setting import MISSING, setting

__all__ = ["ModelConfig"]


@dataclass
class ModelConfig:
    """``model``"""

    name: str = setting(MISSING, "Name of the preset.")
    path: str | None = setting(
        None,
        "Folder, Hub id, bertft run, or all-MiniLM-L6-v2 (installed with the demo extra). Null is"
        " valid only with model.weights=random and model.architecture.",
        file="input",
    )
    revision: str | None = setting(None, "Branch, tag or commit of the Hub repository.")
    tokenizer: str | None = setting(
        None, "Folder or Hub id of the tokenizer. Null: the tokenizer of the model.", file="input"
    )
    weights: str = setting(
        "pretrained",
        "pretrained: load the weights. random: initialize the architecture with random weights, for"
        " tests and benchmarks.",
        choices=("pretrained", "random"),
    )
    architecture: Any = setting(
        {},
        "Overrides of the transformers config (model_type, hidden_size, ...). Only with"
        " model.weights=random.",
    )
    dropout: float | None = setting(
        None,
        "Dropout probability of the hidden states. Null: the value of the model.",
        at_least=0,
        below=1,
    )
    attention_dropout: float | None = setting(
        None,
        "Dropout probability of the attention weights. Null: the value of the model.",
        at_least=0,
        below=1,
    )
    trust_remote_code: bool = setting(False, "Run Python code from the model's Hub repository.")
