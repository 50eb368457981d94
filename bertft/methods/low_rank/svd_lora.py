"""SVD-LoRA: ΔW = s · B · diag(E) · A, with A [r, in], E [r], B [out, r].

s = alpha / r, or alpha / √r with ``use_rslora``; r is the initial rank. E and so ΔW start at 0; A
and B start orthonormal, at N(0, 0.02²), or with these norms and directions from the data
(``data_start``). A pruned triplet is one whose E is 0; s does not change, so the others do not
grow.

After Zhang et al. 2023 (AdaLoRA, arXiv 2303.10512, §3.1).
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from bertft.config.method_components.low_rank import DATA_STARTS
from bertft.methods.low_rank.lora import Update
from bertft.models.precision import at_least_fp32

__all__ = ["SVDLoRA"]

_INIT_STD = 0.02


class SVDLoRA(Update):
    """ΔW = scale · B · diag(E) · A, with A [r, in], E [r] and B [out, r]."""

    groups: ClassVar = {**Update.groups, "E": "_e/no_decay"}
    is_plain_product: ClassVar = True

    def __init__(self, weight: Tensor, rank: int, scale: float, start: str = "orthonormal") -> None:
        super().__init__()
        self.rank, self.scale = rank, scale
        out_features, in_features = weight.shape
        dtype = at_least_fp32(weight.dtype)
        down = weight.new_empty(rank, in_features, dtype=dtype)
        up = weight.new_empty(out_features, rank, dtype=dtype)
        for factor in (down, up):
            if start == "orthonormal":
                nn.init.orthogonal_(factor)
            elif start in ("gaussian", *DATA_STARTS):
                nn.init.normal_(factor, std=_INIT_STD)
            else:
                raise ValueError(f"unknown start {start!r}")
        self.A, self.B = nn.Parameter(down), nn.Parameter(up)
        self.E = nn.Parameter(down.new_zeros(rank))

    def factors(self) -> tuple[Tensor, Tensor]:
        """down [r, in] and up [out, r] with ΔW = scale · up · down."""
        return self.A * self.E[:, None], self.B

    @torch.no_grad()
    def align(self, down: Tensor, up: Tensor | None) -> None:
        """A = ``down`` and B = ``up``, scaled to the root-mean-square norms of N(0, 0.02²)."""
        self.A.copy_(down * (_INIT_STD * math.sqrt(down.shape[1])))
        if up is not None:
            self.B.copy_(up * (_INIT_STD * math.sqrt(up.shape[0])))

    @torch.no_grad()
    def scaled_factors(self) -> tuple[Tensor, Tensor]:
        """A' = diag(E)·A and B' = s·B of the triplets with E ≠ 0, so that ΔW = B'·A'."""
        nonzero = self.E != 0
        return self.A[nonzero] * self.E[nonzero, None], self.B[:, nonzero] * self.scale

    def triplets_left(self) -> int:
        return 0 if self.E.is_meta else int(torch.count_nonzero(self.E))

    def sizes(self, triplets: int) -> tuple[int, int]:
        size = self.A.shape[1] + self.B.shape[0]
        return triplets * (size + 1), triplets * size
