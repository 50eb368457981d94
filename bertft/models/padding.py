"""The tokens of a run of sequences as rows of one length, and back.

    pad     [tokens, h, d] → [n, T, h, d], a row a sequence; padding repeats its last token
    unpad   [n, T, h, d] → [tokens, h, d]

No gradient may come from padding: who pads masks it as keys, and drops what comes of it. So the way
back takes rows out of a tensor, where that of indexing adds up what fell on one token.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bertft.models.plans import Run
from bertft.models.sequences import Sequences

__all__ = ["pad", "unpad"]


def pad(tokens: Tensor, run: Run, sequences: Sequences) -> Tensor:
    """``tokens`` are those of ``run`` alone. A view where all have one length."""
    if not run.equal:
        tokens = _Padded.apply(tokens, sequences.run_cells(run), sequences.run_places(run))
    return tokens.unflatten(0, (run.last - run.first, run.longest))


def unpad(rows: Tensor, run: Run, sequences: Sequences) -> Tensor:
    """The tokens of ``run``."""
    cells = rows.flatten(0, 1)
    return cells if run.equal else _Unpadded.apply(cells, sequences.run_places(run))


class _Padded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tokens: Tensor, cells: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        return tokens.index_select(0, cells)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad.index_select(0, ctx.saved_tensors[0]), None, None


class _Unpadded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, cells: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.shape = cells.shape
        return cells.index_select(0, places)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad.new_zeros(ctx.shape).index_copy_(0, ctx.saved_tensors[0], grad), None
