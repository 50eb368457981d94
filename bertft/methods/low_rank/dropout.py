"""Dropout on the input of ΔW: x · keep / (1 − p), keep ~ Bernoulli(1 − p), each element alone.

On a CPU torch draws a mask element by element in one thread, which costs about as much as the
frozen layer's own product. There, four elements share one 64-bit draw, so that p is rounded to a
multiple of 2⁻¹⁶, and the division is left to the caller, who has a thin product to fold it into.

Draws come from torch's default generator: a seed repeats them, and so does the second forward
pass of gradient checkpointing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["drop", "keep"]

_LEVELS = 1 << 16


def drop(x: Tensor, p: float) -> tuple[Tensor, float]:
    """z and c: c · z is ``x`` after dropout at rate p."""
    if x.device.type != "cpu":  # one fused kernel draws and scales
        return F.dropout(x, p), 1.0
    return x * keep(x, p), _LEVELS / (_LEVELS - round(p * _LEVELS))


def keep(x: Tensor, p: float) -> Tensor:
    """Zeros and ones in the shape and type of ``x``, on the CPU."""
    # From −2⁶³ without an upper end: all 64 bits, where random_() alone leaves the sign out.
    draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(1 << 63), None)
    bits = draws.view(torch.int16)[: x.numel()].view(x.shape)
    return (bits >= round(p * _LEVELS) - _LEVELS // 2).to(x.dtype)
