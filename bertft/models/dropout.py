"""Dropout: x · keep / (1 − p), keep ~ Bernoulli(1 − p), each element alone.

On a CPU torch draws a mask element by element in one thread, a tenth of a step's time, and for
the thin products of ΔW as much as the frozen layer's own; and it keeps a number an element for
the backward pass. There, four elements share one 64-bit draw, so that p is rounded to a multiple
of 2⁻¹⁶, and a byte an element waits. Elsewhere torch's fused kernel serves.

Draws come from torch's default generator: a seed repeats them, and so does the second forward
pass of gradient checkpointing.
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
    """``nn.Dropout`` with the quicker draws."""

    def forward(self, input: Tensor) -> Tensor:
        return dropout(input, self.p) if self.training else input


def replace_dropout(model: nn.Module) -> None:
    """Exchange every plain ``nn.Dropout`` in ``model`` for a ``Dropout`` of the same rate."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, Dropout(child.p).train(child.training))


def dropout(x: Tensor, p: float) -> Tensor:
    """``x`` after dropout at rate p."""
    if not _use_packed_draws(x, p):
        return F.dropout(x, p)
    return _MaskedDropout.apply(x, p)


class _MaskedDropout(torch.autograd.Function):
    """x · keep / (1 − p); a byte an element waits for the backward pass, not a number."""

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
    """h and c: c · h = drop(x) · weightᵀ, x [N, in], weight [R, in].

    On a CPU ``x`` and a byte an element wait for the backward pass, so that layers which share
    their input share what waits of it.
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
    """Fill ``keep_mask``, of any type and on the CPU, with ones and, at rate p, zeros."""
    count = keep_mask.numel()
    # From −2⁶³ without an upper end: all 64 bits, where random_() alone leaves the sign out.
    draws = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(1 << 63), None)
    bits = draws.view(torch.int16)[:count].view(keep_mask.shape)
    # Compared into its own type: into another torch goes an element at a time, six times slower.
    return keep_mask.copy_(torch.ge(bits, _dropped(p) - _LEVELS // 2, out=bits))


def _use_packed_draws(x: Tensor, p: float) -> bool:
    # A compiler draws and multiplies in one go, and knows how to do so for F.dropout alone.
    return x.device.type == "cpu" and 0 < p < 1 and not torch.compiler.is_compiling()


def inverse_keep_prob(p: float) -> float:
    """1 / (1 − p) for p as it is rounded."""
    return _LEVELS / (_LEVELS - _dropped(p))


def _dropped(p: float) -> int:
    """Levels that are dropped; one is always kept, so that the share of what stays is not 0."""
    return min(round(p * _LEVELS), _LEVELS - 1)
