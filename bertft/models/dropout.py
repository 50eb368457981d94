"""Dropout, fast on a CPU: x · keep / (1 − p), keep ~ Bernoulli(1 − p) per element.

On a CPU, torch draws masks element by element in one thread, which takes a tenth of a step and as
long as the thin products of ΔW, and it saves one float per element for the backward pass. Here,
four elements share one 64-bit draw, so that p is rounded to a multiple of 2⁻¹⁶, and one byte per
element is saved. Other devices use torch's fused kernel.

Draws are from torch's default generator, so that a seed and the recomputation of gradient
checkpointing repeat them.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = [
    "Dropout",
    "dropout",
    "dropout_linear",
    "fill_keep_mask",
    "inverse_keep_prob",
    "replace_dropout",
]

_LEVELS = 1 << 16


class Dropout(nn.Dropout):
    """``nn.Dropout`` with fast draws on a CPU."""

    def forward(self, input: Tensor) -> Tensor:
        return dropout(input, self.p) if self.training else input


def replace_dropout(model: nn.Module) -> None:
    """Replace every plain ``nn.Dropout`` in ``model`` by a ``Dropout`` of the same rate."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, Dropout(child.p).train(child.training))


def dropout(x: Tensor, p: float) -> Tensor:
    """``x`` after dropout with rate p."""
    if not _use_packed_draws(x, p):
        return F.dropout(x, p)
    return _MaskedDropout.apply(x, p)


class _MaskedDropout(torch.autograd.Function):
    """x · keep / (1 − p); saves one byte per element for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        keep_mask = fill_keep_mask(torch.empty(x.shape, dtype=torch.uint8), p)
        ctx.save_for_backward(keep_mask)
        ctx.p = p
        return (x * keep_mask).mul_(inverse_keep_prob(p))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (keep_mask,) = ctx.saved_tensors
        return (grad * keep_mask).mul_(inverse_keep_prob(ctx.p)), None


def dropout_linear(x: Tensor, weight: Tensor, p: float) -> tuple[Tensor, float]:
    """h [N, R] and c with c · h = drop(x) · weightᵀ, for x [N, in] and weight [R, in].

    On a CPU, ``x`` itself and one byte per element are saved for the backward pass, so that layers
    with the same input share the saved tensor.
    """
    if not _use_packed_draws(x, p):
        return F.linear(F.dropout(x, p), weight), 1.0
    return _MaskedDropoutLinear.apply(x, weight, p), inverse_keep_prob(p)


class _MaskedDropoutLinear(torch.autograd.Function):
    """(x · keep) · weightᵀ."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, p: float) -> Tensor:
        keep_mask = fill_keep_mask(torch.empty(x.shape, dtype=torch.uint8), p)
        ctx.save_for_backward(x, weight, keep_mask)
        return F.linear(x * keep_mask, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight, keep_mask = ctx.saved_tensors
        needs_x, needs_weight = ctx.needs_input_grad[:2]
        return (
            (grad @ weight).mul_(keep_mask) if needs_x else None,
            grad.t() @ (x * keep_mask) if needs_weight else None,
            None,
        )


def fill_keep_mask(keep_mask: Tensor, p: float) -> Tensor:
    """Fill ``keep_mask``, a CPU tensor of any type, with zeros at rate p and ones elsewhere."""
    count = keep_mask.numel()
    # From −2⁶³ without an upper bound: all 64 bits. random_() without bounds omits the sign.
    draws = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(1 << 63), None)
    bits = draws.view(torch.int16)[:count].view(keep_mask.shape)
    # The comparison writes into its own type: into another type torch is six times slower.
    return keep_mask.copy_(torch.ge(bits, _dropped_levels(p) - _LEVELS // 2, out=bits))


def _use_packed_draws(x: Tensor, p: float) -> bool:
    # A compiler fuses draws and product, but only for F.dropout.
    return x.device.type == "cpu" and 0 < p < 1 and not torch.compiler.is_compiling()


def inverse_keep_prob(p: float) -> float:
    """1 / (1 − p) of the rounded p."""
    return _LEVELS / (_LEVELS - _dropped_levels(p))


def _dropped_levels(p: float) -> int:
    """Levels, of 2¹⁶, that are dropped; at least one is kept, so that 1 − p is not 0."""
    return min(round(p * _LEVELS), _LEVELS - 1)
