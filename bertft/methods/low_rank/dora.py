"""DoRA: W' = diag(m / ‖W + ΔW‖) · (W + ΔW), ‖·‖ the norm of each row, m [out] trained.

With g = m / ‖W + ΔW‖, the output gains (g − 1)·W·z + g·ΔW·z over W·x + bias. The norm is a
constant in the backward pass (Liu et al. 2024, arXiv 2402.09353, §4.3). Under dropout z is the
dropped input in both terms, as in peft; m starts at ‖W‖.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from bertft.methods.low_rank.dtypes import at_least_fp32, autocast_disabled
from bertft.methods.low_rank.lora import LoRA

__all__ = ["DoRA"]


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
        return (gain - 1).to(base_output.dtype) * base_output + gain.to(base_output.dtype) * update_output
