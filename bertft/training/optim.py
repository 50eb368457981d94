"""The optimizer over the parts' groups, built by its name and stepped by hand.

    AdamW    θ ← θ − η_t · (m̂ / (√v̂ + ε) + λ·θ),   η_t = rate · factor(t)

Loshchilov & Hutter 2019, arXiv 1711.05101. Each group keeps its peak rate; λ is 0 where the group
says that it must not decay. Others come from ``bertft.config.registry.OPTIMIZERS``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.optim import AdamW, Optimizer

from bertft.config.registry import OPTIMIZERS
from bertft.config.trainer import TrainerConfig
from bertft.methods.component import ParamGroup

__all__ = [
    "adamw",
    "build_optimizer",
    "load_optimizer_state",
    "lr_lambda",
    "optimizer_state",
    "set_learning_rates",
]


def lr_lambda(step: int, total_steps: int, warmup_fraction: float, schedule: str) -> float:
    """The factor on the peak rate for the ``step``-th of ``total_steps`` updates (from 1), in (0,
    1].

    The first update of the decay runs at the peak, and the last one is still above 0:
    u counts the updates that came before.
    """
    warmup_steps = round(warmup_fraction * total_steps)
    if step <= warmup_steps:
        return step / warmup_steps
    if schedule == "constant":
        return 1.0
    decay_progress = (step - 1 - warmup_steps) / max(1, total_steps - warmup_steps)
    if schedule == "linear":
        return 1.0 - decay_progress
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * decay_progress))
    raise ValueError(f"unknown schedule {schedule!r}")


def build_optimizer(groups: Sequence[ParamGroup], trainer: TrainerConfig) -> Optimizer:
    """The optimizer that ``trainer.optimizer`` names, with the parameter groups in order."""
    description = OPTIMIZERS[trainer.optimizer]
    parameter_groups = [
        {
            "params": [parameter for _, parameter in group.parameters],
            "names": [name for name, _ in group.parameters],
            "name": group.name,
            "lr": group.learning_rate,
            "peak": group.learning_rate,
            "state_names": description.state_tensors,
            "weight_decay": trainer.weight_decay if group.use_weight_decay else 0.0,
        }
        for group in groups
    ]
    settings = None
    if description.settings is not None:
        settings = description.settings(**trainer.optimizer_settings)
    build = OPTIMIZERS.implementation(trainer.optimizer, "build")
    optimizer: Optimizer = build(parameter_groups, trainer, settings)
    return optimizer


def adamw(groups: list[dict[str, Any]], trainer: TrainerConfig, _: None) -> AdamW:
    """One fused AdamW for all groups."""
    return AdamW(groups, betas=(trainer.beta1, trainer.beta2), eps=trainer.epsilon, fused=True)


def set_learning_rates(optimizer: Optimizer, factor: float) -> dict[str, float]:
    """Set every group's rate to peak · factor; name → rate (groups of one name share it)."""
    learning_rates: dict[str, float] = {}
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
        learning_rates[group["name"].split("/")[0]] = group["lr"]
    return learning_rates


def optimizer_state(optimizer: Optimizer) -> dict[str, Any]:
    """The optimizer's tensors and numbers under ``<moment>/<parameter name>``."""
    return {
        f"{key}/{name}": value
        for group in optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer_state(optimizer: Optimizer, saved: dict[str, Any]) -> None:
    """Put back what ``optimizer_state`` gave; parameters that never had a gradient have none.

    KeyError for an unknown parameter, or one that lacks some of its moments.
    """
    by_name: dict[str, dict[str, Any]] = {}
    for path, value in saved.items():
        key, _, name = path.partition("/")
        by_name.setdefault(name, {})[key] = value
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            parameter_state = by_name.pop(name, {})
            if (
                parameter_state
                and group["state_names"]
                and set(parameter_state) != set(group["state_names"])
            ):
                raise KeyError(f"the optimizer state of {name} has only {sorted(parameter_state)}")
            for key, value in parameter_state.items():
                if not isinstance(value, Tensor):
                    optimizer.state[parameter][key] = value
                    continue
                # A step counter stays in fp32; moments are kept in the type of their parameter.
                is_moment = key != "step" and value.shape == parameter.shape
                dtype = parameter.dtype if is_moment else value.dtype
                optimizer.state[parameter][key] = value.to(parameter.device, dtype).clone()
    if by_name:
        unknown = sorted(
            f"{key}/{name}"
            for name, parameter_state_left in by_name.items()
            for key in parameter_state_left
        )
        raise KeyError(f"the optimizer state names unknown parameters: {unknown[:3]}")
