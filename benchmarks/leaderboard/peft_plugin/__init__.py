"""peft's LoRA, DoRA and AdaLoRA as a method component: its layers in bertft's training loop.

The leaderboard registers this package in the environment of its runs. So peft's methods train on
the same batches, with the same head, optimizer, schedule and evaluation as bertft's. Nothing here
imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bertft.config.component_specs import MethodSpec
from bertft.config.setting import setting

__all__ = ["PEFT_LAYERS", "PeftLayersConfig"]


@dataclass
class PeftLayersConfig:
    """Layers of peft."""

    kind: str = setting("lora", "lora, dora or adalora.", choices=("lora", "dora", "adalora"))
    targets: Any = setting(["query", "value"], "A list of query and value, or all_linear.")
    rank: int = setting(8, "r of peft; AdaLoRA: the average rank at the end.", at_least=1)
    alpha: float = setting(16.0, "lora_alpha of peft.", above=0)
    dropout: float = setting(0.05, "lora_dropout of peft.", at_least=0, below=1)
    learning_rate: float = setting(2e-3, "Peak learning rate.", above=0)


PEFT_LAYERS = MethodSpec(
    settings=PeftLayersConfig, build="benchmarks.leaderboard.peft_plugin.layers:build"
)
