"""Dropout, fast on a CPU: x · keep / (1 − p), keep ~ Bernoulli(1 − p) per element.

On a CPU, torch draws masks element by element in one thread, which takes a tenth of a step and as
long as the thin products of ΔW, and it saves one float per element for the backward pass. Here,

- four elements share one 64-bit draw, so that p is rounded to a multiple of 2⁻¹⁶;
- the draws are those of NumPy's SFC64, which takes half as long as torch's generator;
- in half precision, a mask is applied as a bitwise AND with the values, which takes a quarter as
  long as a multiplication. It has two bytes per element then, and one in other types.

Other devices use torch's fused kernel.

Every mask starts SFC64 at a state that is drawn from torch's default generator. A seed, a
checkpoint with torch's state, and the recomputation of gradient checkpointing therefore repeat it.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = [
    "Dropout",
    "apply_keep_mask",
    "draw_keep_mask",
    "dropout",
    "dropout_linear",
    "inverse_keep_prob",
    "replace_dropout",
]

_LEVELS = 1 << 16
_SFC64_WARM_UP = 12  # outputs that SFC64's author discards after seeding


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
    """x · keep / (1 − p); saves the mask for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        keep_mask = draw_keep_mask(x.shape, p, x.dtype)
        ctx.save_for_backward(keep_mask)
        ctx.p = p
        return apply_keep_mask(x, keep_mask).mul_(inverse_keep_prob(p))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (keep_mask,) = ctx.saved_tensors
        return apply_keep_mask(grad, keep_mask).mul_(inverse_keep_prob(ctx.p)), None


def dropout_linear(x: Tensor, weight: Tensor, p: float) -> tuple[Tensor, float]:
    """h [N, R] and c with c · h = drop(x) · weightᵀ, for x [N, in] and weight [R, in].

    On a CPU, ``x`` itself and the mask are saved for the backward pass, so that layers with the
    same input share the saved tensor.
    """
    if not _use_packed_draws(x, p):
        return F.linear(F.dropout(x, p), weight), 1.0
    return _MaskedDropoutLinear.apply(x, weight, p), inverse_keep_prob(p)


class _MaskedDropoutLinear(torch.autograd.Function):
    """(x · keep) · weightᵀ."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, p: float) -> Tensor:
        keep_mask = draw_keep_mask(x.shape, p, x.dtype)
        ctx.save_for_backward(x, weight, keep_mask)
        return F.linear(apply_keep_mask(x, keep_mask), weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight, keep_mask = ctx.saved_tensors
        needs_x, needs_weight = ctx.needs_input_grad[:2]
        return (
            apply_keep_mask(grad @ weight, keep_mask) if needs_x else None,
            grad.t() @ apply_keep_mask(x, keep_mask) if needs_weight else None,
            None,
        )


class _ThreadGenerator(threading.local):
    """NumPy's SFC64, one per thread: setting its state and drawing are two calls."""

    def __init__(self) -> None:
        self.sfc64 = np.random.SFC64(0)


_generator = _ThreadGenerator()


def draw_keep_mask(shape: Sequence[int], p: float, dtype: torch.dtype) -> Tensor:
    """A mask on the CPU for values of ``dtype``, which ``apply_keep_mask`` applies.

    It drops at rate p. Dropped elements are 0. Others are 1 (uint8), or for values of two bytes −1
    (int16), which has all bits set.
    """
    count = math.prod(shape)
    bits = _random_words((count + 3) // 4).view(torch.int16)[:count].view(torch.Size(shape))
    # The comparison writes into its own type: into another type torch is six times slower.
    mask = torch.ge(bits, _dropped_levels(p) - _LEVELS // 2, out=bits)
    return mask.neg_() if dtype.itemsize == 2 else mask.to(torch.uint8)


def _random_words(count: int) -> Tensor:
    """``count`` random 64-bit words; their seed is the next of torch's default generator."""
    # random_() without bounds omits the sign.
    state = torch.empty(4, dtype=torch.int64).random_(-(1 << 63), None).numpy().view(np.uint64)
    state[3] = 1  # SFC64's counter, after three words of seed
    sfc64 = _generator.sfc64
    sfc64.state = {
        "bit_generator": "SFC64",
        "state": {"state": state},
        "has_uint32": 0,
        "uinteger": 0,
    }
    words = sfc64.random_raw(_SFC64_WARM_UP + count)[_SFC64_WARM_UP:]
    return torch.from_numpy(words.view(np.int64))


def apply_keep_mask(x: Tensor, keep_mask: Tensor, out: Tensor | None = None) -> Tensor:
    """``x`` where ``keep_mask`` keeps it, 0 elsewhere; not scaled by 1 / (1 − p).

    Args:
        x: Values of the type that the mask was drawn for.
        keep_mask: A mask of the same shape, or for values of two bytes its ``to(torch.int8)``.
        out: Receives the result; it may be ``x``.
    """
    if x.element_size() != 2:
        return torch.mul(x, keep_mask, out=out)
    if out is None:
        return torch.bitwise_and(x.view(torch.int16), keep_mask).view(x.dtype)
    torch.bitwise_and(x.view(torch.int16), keep_mask, out=out.view(torch.int16))
    return out


def _use_packed_draws(x: Tensor, p: float) -> bool:
    # A compiler fuses draws and product, but only for F.dropout.
    return x.device.type == "cpu" and 0 < p < 1 and not torch.compiler.is_compiling()


def inverse_keep_prob(p: float) -> float:
    """1 / (1 − p) of the rounded p."""
    return _LEVELS / (_LEVELS - _dropped_levels(p))


def _dropped_levels(p: float) -> int:
    """Levels, of 2¹⁶, that are dropped; at least one is kept, so that 1 − p is not 0."""
    return min(round(p * _LEVELS), _LEVELS - 1)
