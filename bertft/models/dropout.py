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

__all__ = ["Dropout", "draw_into", "drop_linear", "dropout", "share", "take_over"]

_LEVELS = 1 << 16


class Dropout(nn.Dropout):
    """``nn.Dropout`` with the quicker draws."""

    def forward(self, input: Tensor) -> Tensor:
        return dropout(input, self.p) if self.training else input


def take_over(model: nn.Module) -> None:
    """Exchange every plain ``nn.Dropout`` in ``model`` for a ``Dropout`` of the same rate."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, Dropout(child.p).train(child.training))


def dropout(x: Tensor, p: float) -> Tensor:
    """``x`` after dropout at rate p."""
    if not _served(x, p):
        return F.dropout(x, p)
    return _Kept.apply(x, p)


class _Kept(torch.autograd.Function):
    """x · keep / (1 − p); a byte an element waits for the backward pass, not a number."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        keeps = draw_into(torch.empty(x.shape, dtype=torch.uint8), p)
        ctx.save_for_backward(keeps)
        ctx.p = p
        return (x * keeps).mul_(share(p))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (keeps,) = ctx.saved_tensors
        return (grad * keeps).mul_(share(ctx.p)), None


def drop_linear(x: Tensor, weight: Tensor, p: float) -> tuple[Tensor, float]:
    """h and c: c · h = drop(x) · weightᵀ, x [N, in], weight [R, in].

    On a CPU ``x`` and a byte an element wait for the backward pass, so that layers which share
    their input share what waits of it.
    """
    if not _served(x, p):
        return F.linear(F.dropout(x, p), weight), 1.0
    return _KeptLinear.apply(x, weight, p), share(p)


class _KeptLinear(torch.autograd.Function):
    """(x · keep) · weightᵀ."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, p: float) -> Tensor:
        keeps = draw_into(torch.empty(x.shape, dtype=torch.uint8), p)
        ctx.save_for_backward(x, weight, keeps)
        return F.linear(x * keeps, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight, keeps = ctx.saved_tensors
        of_x, of_weight = ctx.needs_input_grad[:2]
        return (
            (grad @ weight).mul_(keeps) if of_x else None,
            grad.t() @ (x * keeps) if of_weight else None,
            None,
        )


def draw_into(keeps: Tensor, p: float) -> Tensor:
    """Fill ``keeps``, of any type and on the CPU, with ones and, at rate p, zeros."""
    count = keeps.numel()
    # From −2⁶³ without an upper end: all 64 bits, where random_() alone leaves the sign out.
    draws = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(1 << 63), None)
    bits = draws.view(torch.int16)[:count].view(keeps.shape)
    # Compared into its own type: into another torch goes an element at a time, six times slower.
    return keeps.copy_(torch.ge(bits, _dropped(p) - _LEVELS // 2, out=bits))


def _served(x: Tensor, p: float) -> bool:
    # A compiler draws and multiplies in one go, and knows how to do so for F.dropout alone.
    return x.device.type == "cpu" and 0 < p < 1 and not torch.compiler.is_compiling()


def share(p: float) -> float:
    """1 / (1 − p) for p as it is rounded."""
    return _LEVELS / (_LEVELS - _dropped(p))


def _dropped(p: float) -> int:
    """Levels that are dropped; one is always kept, so that the share of what stays is not 0."""
    return min(round(p * _LEVELS), _LEVELS - 1)
