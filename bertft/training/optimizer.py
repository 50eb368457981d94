"""The optimizer over the parts' groups, built by its name and stepped by hand.

    AdamW    θ ← θ − η_t · (m̂ / (√v̂ + ε) + λ·θ),   η_t = rate · factor(t)

Loshchilov & Hutter 2019, arXiv 1711.05101. Each group keeps its peak rate; λ is 0 where the group
says that it must not decay. Others come from ``bertft.config.registry.OPTIMIZERS``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.optim import AdamW, Optimizer

from bertft.config.registry import OPTIMIZERS
from bertft.config.trainer import TrainerConfig
from bertft.methods.part import Group

__all__ = ["adamw", "build", "load_moments", "moments", "set_rates"]


def build(groups: Sequence[Group], trainer: TrainerConfig) -> Optimizer:
    """The optimizer that ``trainer.optimizer`` names, with the parameter groups in order."""
    chosen = OPTIMIZERS[trainer.optimizer]
    parameter_groups = [
        {
            "params": [parameter for _, parameter in group.parameters],
            "names": [name for name, _ in group.parameters],
            "name": group.name,
            "lr": group.rate,
            "peak": group.rate,
            "state_names": chosen.state,
            "weight_decay": trainer.weight_decay if group.decay else 0.0,
        }
        for group in groups
    ]
    settings = None
    if chosen.settings is not None:
        settings = chosen.settings(**trainer.optimizer_settings)
    make = OPTIMIZERS.implementation(trainer.optimizer, "build")
    optimizer: Optimizer = make(parameter_groups, trainer, settings)
    return optimizer


def adamw(groups: list[dict[str, Any]], trainer: TrainerConfig, _: None) -> AdamW:
    """One fused AdamW for all groups."""
    return AdamW(groups, betas=(trainer.beta1, trainer.beta2), eps=trainer.epsilon, fused=True)


def set_rates(optimizer: Optimizer, factor: float) -> dict[str, float]:
    """Set every group's rate to peak · factor; name → rate (groups of one name share it)."""
    rates: dict[str, float] = {}
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
        rates[group["name"].split("/")[0]] = group["lr"]
    return rates


def moments(optimizer: Optimizer) -> dict[str, Any]:
    """The optimizer's tensors and numbers under ``<moment>/<parameter name>``."""
    return {
        f"{key}/{name}": value
        for group in optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_moments(optimizer: Optimizer, saved: dict[str, Any]) -> None:
    """Put back what ``moments`` gave; parameters that never had a gradient have none.

    KeyError for an unknown parameter, or one that lacks some of its moments.
    """
    by_name: dict[str, dict[str, Any]] = {}
    for path, value in saved.items():
        key, _, name = path.partition("/")
        by_name.setdefault(name, {})[key] = value
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            found = by_name.pop(name, {})
            if found and group["state_names"] and set(found) != set(group["state_names"]):
                raise KeyError(f"the optimizer state of {name} has only {sorted(found)}")
            for key, value in found.items():
                if not isinstance(value, Tensor):
                    optimizer.state[parameter][key] = value
                    continue
                # A step counter stays in fp32; moments are kept in the type of their parameter.
                moment = key != "step" and value.shape == parameter.shape
                kind = parameter.dtype if moment else value.dtype
                optimizer.state[parameter][key] = value.to(parameter.device, kind).clone()
    if by_name:
        unknown = sorted(f"{key}/{name}" for name, each in by_name.items() for key in each)
        raise KeyError(f"the optimizer state names unknown parameters: {unknown[:3]}")
