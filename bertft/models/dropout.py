"""Dropout: x · keep / (1 − p), keep ~ Bernoulli(1 − p), each element alone.

On a CPU torch draws a mask element by element in one thread: a tenth of a step's time, and for
the thin products of ΔW as much as the frozen layer's own. There, four elements share one 64-bit
draw, so that p is rounded to a multiple of 2⁻¹⁶. Elsewhere torch's fused kernel serves.

Draws come from torch's default generator: a seed repeats them, and so does the second forward
pass of gradient checkpointing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Dropout", "draw_into", "drop", "dropout", "keep", "share", "take_over"]

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
    return x * keep(x, p).mul_(share(p))


def drop(x: Tensor, p: float) -> tuple[Tensor, float]:
    """z and c: c · z is ``x`` after dropout at rate p, for callers with a thin product to fold c
    into."""
    if not _served(x, p):
        return F.dropout(x, p), 1.0
    return x * keep(x, p), share(p)


def keep(x: Tensor, p: float) -> Tensor:
    """Zeros and ones in the shape and type of ``x``, on the CPU."""
    return _drawn(x.shape, p).to(x.dtype)


def draw_into(keeps: Tensor, p: float) -> None:
    """Fill ``keeps``, of any type, with zeros and ones as ``keep`` draws them."""
    keeps.copy_(_drawn(keeps.shape, p))


def _drawn(shape: torch.Size, p: float) -> Tensor:
    """Zeros and ones in int16."""
    count = shape.numel()
    # From −2⁶³ without an upper end: all 64 bits, where random_() alone leaves the sign out.
    draws = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(1 << 63), None)
    bits = draws.view(torch.int16)[:count].view(shape)
    # Compared into its own type: into bool torch goes an element at a time, six times slower.
    return torch.ge(bits, round(p * _LEVELS) - _LEVELS // 2, out=bits)


def _served(x: Tensor, p: float) -> bool:
    return x.device.type == "cpu" and 0 < p < 1


def share(p: float) -> float:
    """1 / (1 − p) for p as it is rounded."""
    return _LEVELS / (_LEVELS - round(p * _LEVELS))
