"""What keeps A and B of SVD-LoRA orthonormal, and E sparse (AdaLoRA §3.1, eq. 4).

    γ · mean over all A and B of ‖A·Aᵀ − I‖_F, ‖Bᵀ·B − I‖_F   +   λ · ‖E‖₁

In fp32, or fp64 where the parameters are. Part of the training loss only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from bertft.methods.low_rank.dtypes import autocast_disabled
from bertft.methods.low_rank.svd_lora import SVDLoRA

__all__ = ["AdaLoRAPenalty", "orthogonality_loss"]


def orthogonality_loss(factors: Sequence[Tensor]) -> Tensor:
    """Mean of ‖F·Fᵀ − I‖_F over ``factors`` [r, n]; those of one shape take one batched product."""
    stacks: dict[torch.Size, list[Tensor]] = defaultdict(list)
    for factor in factors:
        stacks[factor.shape].append(factor)
    norm_sums = []
    for (rank, _), stack in stacks.items():
        stacked = torch.stack(stack)
        identity = torch.eye(rank, dtype=stacked.dtype, device=stacked.device)
        with autocast_disabled(stacked):
            deviation = torch.baddbmm(identity, stacked, stacked.mT, beta=-1)
        # Unlike √Σ², this norm has a gradient, 0, where A is exactly orthonormal.
        norm_sums.append(torch.linalg.vector_norm(deviation, dim=(1, 2)).sum())
    return torch.stack(norm_sums).sum() / len(factors)


class AdaLoRAPenalty:
    """``last``: the terms of the latest call, detached and without their weights."""

    def __init__(self, modules: Sequence[SVDLoRA], orthogonality: float, l1: float) -> None:
        self.modules = list(modules)
        self.orthogonality, self.l1 = orthogonality, l1
        self.last_terms: dict[str, Tensor] = {}

    def __call__(self) -> Tensor | None:
        """The weighted sum; None where both weights are 0."""
        terms = []
        if self.orthogonality:
            factors = [factor for module in self.modules for factor in (module.A, module.B.t())]
            term = orthogonality_loss(factors)
            self.last_terms["orthogonality"] = term.detach()
            terms.append(self.orthogonality * term)
        if self.l1:
            term = torch.cat([module.E for module in self.modules]).abs().sum()
            self.last_terms["l1"] = term.detach()
            terms.append(self.l1 * term)
        return torch.stack(terms).sum() if terms else None
