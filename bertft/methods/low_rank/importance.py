"""How much a weight matters, smoothed over the steps (Zhang et al. 2022, PLATON; AdaLoRA §3.2).

    I = |w · g|,   Ī ← β₁·Ī + (1 − β₁)·I,   Ū ← β₂·Ū + (1 − β₂)·|I − Ī|,   s = Ī · Ū

with the weight before the optimizer step and its final gradient: s is quadratic in g, so that a
loss scale left in it would outweigh every later step. Of triplet i of a module:

    S_i = s(E_i) + mean_j s(A_ij) + mean_j s(B_ji)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bertft.methods.low_rank.svd_lora import SVDLoRA

__all__ = ["ImportanceTracker", "top_mask"]


class ImportanceTracker:
    """Ī and Ū of every A, B and E of ``modules``, which share one rank r."""

    def __init__(self, modules: Sequence[SVDLoRA], beta1: float, beta2: float) -> None:
        self.parameters: list[nn.Parameter] = [
            parameter for module in modules for parameter in (module.A, module.B, module.E)
        ]
        self.beta1, self.beta2 = beta1, beta2
        self.mean = [torch.zeros_like(factor, requires_grad=False) for factor in self.parameters]
        self.uncertainty = [torch.zeros_like(each, requires_grad=False) for each in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the present weights and gradients; a weight without a gradient is left alone."""
        self._follow_device()
        tensor_lists: tuple[list[Tensor], ...] = ([], [], [], [])
        for tensors in zip(self.parameters, self.mean, self.uncertainty, strict=True):
            if tensors[0].grad is not None:
                for tensor_list, tensor in zip(tensor_lists, (*tensors, tensors[0].grad), strict=True):
                    tensor_list.append(tensor)
        weights, mean, uncertainty, gradients = tensor_lists
        if not weights:
            return
        importance = torch._foreach_mul(weights, gradients)
        torch._foreach_abs_(importance)
        torch._foreach_mul_(mean, self.beta1)
        torch._foreach_add_(mean, importance, alpha=1 - self.beta1)
        torch._foreach_sub_(importance, mean)
        torch._foreach_abs_(importance)
        torch._foreach_mul_(uncertainty, self.beta2)
        torch._foreach_add_(uncertainty, importance, alpha=1 - self.beta2)

    @torch.no_grad()
    def triplet_scores(self) -> Tensor:
        """S [modules, r]."""
        self._follow_device()
        scores = torch._foreach_mul(self.mean, self.uncertainty)
        return torch.stack(
            [
                scores[offset + 2] + scores[offset].mean(1) + scores[offset + 1].mean(0)
                for offset in range(0, len(scores), 3)
            ]
        )

    def _follow_device(self) -> None:
        """The model may have moved since."""
        if self.parameters and self.mean[0].device != self.parameters[0].device:
            for statistics in (self.mean, self.uncertainty):
                statistics[:] = [
                    tensor.to(parameter.device)
                    for tensor, parameter in zip(statistics, self.parameters, strict=True)
                ]


def top_mask(scores: Tensor, budget: int) -> Tensor:
    """Bool mask [modules, r] of exactly ``budget`` highest ``scores`` [modules, r].

    Of equal ones the lower triplet number goes first, then the lower module, so that modules
    that nothing is known of are cut alike.
    """
    order = scores.t().flatten().sort(descending=True, stable=True).indices
    mask = torch.zeros_like(order, dtype=torch.bool)
    mask[order[:budget]] = True
    return mask.view(scores.shape[1], scores.shape[0]).t().contiguous()
