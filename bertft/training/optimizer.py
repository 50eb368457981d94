"""AdamW over the parts' groups (Loshchilov & Hutter 2019, arXiv 1711.05101), stepped by hand.

    θ ← θ − η_t · (m̂ / (√v̂ + ε) + λ·θ),   η_t = rate · factor(t)

Each group keeps its peak rate; λ is 0 where the group says that it must not decay.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.optim import AdamW

from bertft.config.trainer import TrainerConfig
from bertft.methods.part import Group

__all__ = ["build", "load_moments", "moments", "set_rates"]

_STATE = ("exp_avg", "exp_avg_sq", "step")


def build(groups: Sequence[Group], settings: TrainerConfig) -> AdamW:
    """One fused AdamW; its parameter groups stand in the order of ``groups``."""
    return AdamW(
        [
            {
                "params": [parameter for _, parameter in group.parameters],
                "names": [name for name, _ in group.parameters],
                "name": group.name,
                "lr": group.rate,
                "peak": group.rate,
                "weight_decay": settings.weight_decay if group.decay else 0.0,
            }
            for group in groups
        ],
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        fused=True,
    )


def set_rates(optimizer: AdamW, factor: float) -> dict[str, float]:
    """Set every group's rate to peak · factor; name → rate (groups of one name share it)."""
    rates: dict[str, float] = {}
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
        rates[group["name"].split("/")[0]] = group["lr"]
    return rates


def moments(optimizer: AdamW) -> dict[str, Tensor]:
    """The optimizer's tensors under ``<moment>/<parameter name>``."""
    return {
        f"{key}/{name}": value
        for group in optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_moments(optimizer: AdamW, saved: dict[str, Tensor]) -> None:
    """Put back what ``moments`` gave; parameters that never had a gradient have none.

    KeyError for an unknown parameter, or one that lacks some of its moments.
    """
    left = dict(saved)
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            found = {key: left.pop(f"{key}/{name}") for key in _STATE if f"{key}/{name}" in left}
            if 0 < len(found) < len(_STATE):
                raise KeyError(f"the optimizer state of {name} has only {sorted(found)}")
            for key, value in found.items():
                # AdamW keeps its step counter in fp32 beside the parameter's device.
                kind = value.dtype if key == "step" else parameter.dtype
                optimizer.state[parameter][key] = value.to(parameter.device, kind).clone()
    if left:
        raise KeyError(f"the optimizer state names unknown parameters: {sorted(left)[:3]}")
