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

from bertft.models.plans import AttentionChunk
from bertft.models.sequences import SequenceLayout

__all__ = ["pad_chunk", "unpad_chunk"]


def pad_chunk(tokens: Tensor, chunk: AttentionChunk, layout: SequenceLayout) -> Tensor:
    """``tokens`` are those of ``chunk`` alone. A view where all have one length."""
    if not chunk.equal_lengths:
        tokens = _PadChunk.apply(tokens, layout.chunk_gather_indices(chunk), layout.chunk_token_slots(chunk))
    return tokens.unflatten(0, (chunk.end_sequence - chunk.first_sequence, chunk.max_length))


def unpad_chunk(rows: Tensor, chunk: AttentionChunk, layout: SequenceLayout) -> Tensor:
    """The tokens of ``chunk``."""
    slots = rows.flatten(0, 1)
    return slots if chunk.equal_lengths else _UnpadChunk.apply(slots, layout.chunk_token_slots(chunk))


class _PadChunk(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tokens: Tensor, gather_indices: Tensor, token_slots: Tensor) -> Tensor:
        ctx.save_for_backward(token_slots)
        return tokens.index_select(0, gather_indices)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad.index_select(0, ctx.saved_tensors[0]), None, None


class _UnpadChunk(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, slots: Tensor, token_slots: Tensor) -> Tensor:
        ctx.save_for_backward(token_slots)
        ctx.shape = slots.shape
        return slots.index_select(0, token_slots)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad.new_zeros(ctx.shape).index_copy_(0, ctx.saved_tensors[0], grad), None
