"""Whether training changed the weights: the sizes of the parameter groups before and after.

    size of a group = Σ |weight| over its parameters, in fp64

Any update, however small, changes a weight that is 0: hence a sum over all weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim import Optimizer

from bertft.config.trainer import TrainerConfig

__all__ = ["group_sizes", "unchanged_groups", "updates_are_negligible"]


def group_sizes(optimizer: Optimizer) -> dict[str, float]:
    """Parameter group → Σ |weight|: equal before and after if no weight changed."""
    norms: dict[str, list[Tensor]] = {}
    for group in optimizer.param_groups:
        norms.setdefault(group["name"], []).extend(
            torch.linalg.vector_norm(parameter.detach(), 1, dtype=torch.float64)
            for parameter in group["params"]
        )
    return {name: float(torch.stack(values).sum()) for name, values in norms.items() if values}


def unchanged_groups(
    optimizer: Optimizer, start: Mapping[str, float], sizes: Mapping[str, float]
) -> list[str]:
    """The groups whose ``sizes`` are those of the ``start``, or still negligible.

    A group that starts at 0 has not learned up to a size at which the products of its weights, as
    those of B and E of a low-rank update, with the other trained weights are below the resolution
    of the dtype.
    """
    counts: Counter[str] = Counter()
    resolution = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            counts[group["name"]] += parameter.numel()
            resolution[group["name"]] = torch.finfo(parameter.dtype).eps
    mean = sum(start.values()) / max(1, sum(counts.values()))
    return [
        name
        for name, size in start.items()
        if name in sizes
        and (
            sizes[name] == size
            or (not size and sizes[name] <= counts[name] * mean * resolution[name])
        )
    ]


def updates_are_negligible(gradient: float | None, trainer: TrainerConfig) -> bool:
    """Whether no gradient g moved a weight by more than 1e-6 of the learning rate η.

    A step of AdamW is at most η · g / ε. Weight decay may still change weights. ``gradient``: the
    largest g; None if the run was started by a version that did not record it.
    """
    if gradient is None:
        return False
    return gradient <= (1e-6 * trainer.epsilon if trainer.optimizer == "adamw" else 0.0)
