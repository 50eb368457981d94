"""What keeps A and B of SVD-LoRA orthonormal, and E sparse (AdaLoRA §3.1, eq. 4).

    γ · mean over all A and B of ‖A·Aᵀ − I‖_F, ‖Bᵀ·B − I‖_F   +   λ · ‖E‖₁

In fp32, or fp64 where the parameters are. Part of the training loss only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from bertft.methods.low_rank.dtypes import exact
from bertft.methods.low_rank.svd_lora import SVDLoRA

__all__ = ["Penalty", "orthogonality"]


def orthogonality(factors: Sequence[Tensor]) -> Tensor:
    """Mean of ‖F·Fᵀ − I‖_F over ``factors`` [r, n]; those of one shape take one batched product."""
    stacks: dict[torch.Size, list[Tensor]] = defaultdict(list)
    for factor in factors:
        stacks[factor.shape].append(factor)
    sums = []
    for (rank, _), stack in stacks.items():
        rows = torch.stack(stack)
        identity = torch.eye(rank, dtype=rows.dtype, device=rows.device)
        with exact(rows):
            off = torch.baddbmm(identity, rows, rows.mT, beta=-1)
        # Unlike √Σ², this norm has a gradient, 0, where A is exactly orthonormal.
        sums.append(torch.linalg.vector_norm(off, dim=(1, 2)).sum())
    return torch.stack(sums).sum() / len(factors)


class Penalty:
    """``last``: the terms of the latest call, detached and without their weights."""

    def __init__(self, modules: Sequence[SVDLoRA], orthogonality: float, l1: float) -> None:
        self.modules = list(modules)
        self.orthogonality, self.l1 = orthogonality, l1
        self.last: dict[str, Tensor] = {}

    def __call__(self) -> Tensor | None:
        """The weighted sum; None where both weights are 0."""
        terms = []
        if self.orthogonality:
            factors = [each for module in self.modules for each in (module.A, module.B.t())]
            term = orthogonality(factors)
            self.last["orthogonality"] = term.detach()
            terms.append(self.orthogonality * term)
        if self.l1:
            term = torch.cat([module.E for module in self.modules]).abs().sum()
            self.last["l1"] = term.detach()
            terms.append(self.l1 * term)
        return torch.stack(terms).sum() if terms else None
