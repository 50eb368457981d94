"""LoRA: ΔW = s · B · A, with A [r, in], B [out, r], s = alpha / r or alpha / √r.

    zero_b      A ~ Kaiming-uniform (a = √5), B = 0: ΔW is 0 at the start
    principal   B₀·A₀ = the r largest singular triplets of W / s, √S on either side; to leave the
                base weights as they are, ΔW = s · (B·A − B₀·A₀), with A₀ and B₀ as buffers

The difference is computed as (B − B₀)·A + B₀·(A − A₀): exactly 0 at the start, one product of
rank 2r, and nothing cancels in half precision.

Hu et al. 2021 (arXiv 2106.09685); scale 1/√r: Kalajdzievski 2023 (arXiv 2312.03732); principal:
Meng et al. 2024 (PiSSA, arXiv 2404.02948).
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from bertft.methods.low_rank.update import Update, at_least_fp32, autocast_disabled

__all__ = [
    "DoRA",
    "LoRA",
]


class LoRA(Update):
    """ΔW for ``weight`` [out, in]; parameters in fp32, or in fp64 where the weight is."""

    A: nn.Parameter
    B: nn.Parameter
    A0: Tensor | None
    B0: Tensor | None

    def __init__(self, weight: Tensor, rank: int, scale: float, start: str = "zero_b") -> None:
        super().__init__()
        self.rank, self.scale = rank, scale
        out_features, in_features = weight.shape
        weight = weight.detach().to(at_least_fp32(weight.dtype))
        if start == "zero_b":
            down = nn.init.kaiming_uniform_(weight.new_empty(rank, in_features), a=math.sqrt(5))
            up = weight.new_zeros(out_features, rank)
        elif start == "principal":
            down, up = _principal_factors(weight / scale, rank)
        else:
            raise ValueError(f"unknown start {start!r}")
        self.A, self.B = nn.Parameter(down), nn.Parameter(up)
        keeps_start = start == "principal"
        self.register_buffer("A0", down.clone() if keeps_start else None)
        self.register_buffer("B0", up.clone() if keeps_start else None)

    def factors(self) -> tuple[Tensor, Tensor]:
        """down [R, in] and up [out, R] with ΔW = scale · up · down; R is r, or 2r."""
        if self.A0 is None or self.B0 is None:
            return self.A, self.B
        return (
            torch.cat([self.A, self.A - self.A0]),
            torch.cat([self.B - self.B0, self.B0], 1),
        )

    @torch.no_grad()
    def scaled_factors(self) -> tuple[Tensor, Tensor]:
        """A' and B' with ΔW = B'·A'."""
        down, up = self.factors()
        return down.clone(), up * self.scale


class DoRA(LoRA):
    """LoRA for the directions of the rows, and their ``magnitude`` [out] apart."""

    groups: ClassVar = {**LoRA.groups, "magnitude": "/no_decay"}

    def __init__(self, weight: Tensor, rank: int, scale: float, start: str = "zero_b") -> None:
        super().__init__(weight, rank, scale, start)
        self.magnitude = nn.Parameter(self.row_norms(weight))

    @torch.no_grad()
    def row_norms(self, weight: Tensor) -> Tensor:
        """‖W + ΔW‖ of each row, in fp32 or fp64."""
        down, up = self.factors()
        weight = weight.detach().to(at_least_fp32(weight.dtype))
        with autocast_disabled(weight):
            updated_weight = torch.addmm(weight, up, down, alpha=self.scale)
        return torch.linalg.vector_norm(updated_weight, dim=1)

    def row_gain(self, weight: Tensor) -> Tensor:
        """g [out], differentiable in m alone."""
        return self.magnitude / self.row_norms(weight)

    def output_delta(self, base_output: Tensor, update_output: Tensor, weight: Tensor) -> Tensor:
        """What W·x + bias lacks; ``base_output`` = W·z, ``update_output`` = ΔW·z, both [N, out]."""
        gain = self.row_gain(weight)
        # 1 is taken off before the cast: in bf16, 1.001 would be 1.
        return (gain - 1).to(base_output.dtype) * base_output + gain.to(
            base_output.dtype
        ) * update_output


def _principal_factors(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    u, singular_values, vh = torch.linalg.svd(weight, full_matrices=False)
    sqrt_singular_values = singular_values[:rank].sqrt()
    return (sqrt_singular_values[:, None] * vh[:rank]).contiguous(), (
        u[:, :rank] * sqrt_singular_values
    ).contiguous()
