"""θ ← θ − η · (sign(m) + λ·θ),  m ← β·m + (1 − β)·g"""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer

from bertft.config.trainer import TrainerConfig
from bertft_example.components import SignMomentumSettings

__all__ = ["SignMomentum", "build"]


def build(
    groups: list[dict[str, Any]], trainer: TrainerConfig, settings: SignMomentumSettings
) -> SignMomentum:
    """``groups`` have a learning rate and a weight decay each."""
    return SignMomentum(groups, settings.momentum)


class SignMomentum(Optimizer):
    """Steps of equal size in every coordinate."""

    def __init__(self, groups: list[dict[str, Any]], momentum: float) -> None:
        super().__init__(groups, {"lr": 1e-3, "weight_decay": 0.0, "beta": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum = state["momentum"].lerp_(parameter.grad, 1 - group["beta"])
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.sub_(momentum.sign(), alpha=group["lr"])
