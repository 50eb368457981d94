"""Attention on a CPU in blocks that stay in its cache, and a backward pass that computes them anew.

    O = (softmax(s·Q·Kᵀ + mask) ∘ keep / (1 − p)) · V

The weights [n, heads, t, u] of long rows outgrow everything else of a step: written out, with the
mask of dropout and their product, they are 12 bytes a pair that wait for the backward pass and must
be fetched again. Here a block of heads is scored, normalised, dropped out and multiplied before the
next one is begun, in buffers that all blocks share. What waits is Q, K, V and a byte a pair, of
dropout's draws; the backward pass computes the weights from them again, one product more than the
five that it needs (Dao et al. 2022, arXiv 2205.14135, §3.1 and appendix B.2, whose tiles of one
row's softmax are not needed where a row fits in the cache).

Equal to the plain products, but for the rounding of 1 / (1 − p), which multiplies V here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bertft.models.dropout import draw_into, share

__all__ = ["LARGE", "in_blocks"]

LARGE = 1 << 20
"""Pairs from which blocks are at least as fast as the plain products, which remember more."""

_BLOCK = 1 << 18  # pairs of a block: 1 MB a buffer in fp32

_Block = tuple[tuple[slice, slice], Tensor, Tensor]


def in_blocks(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float, scale: float
) -> Tensor:
    """[n, heads, t, d] of queries [n, heads, t, d], keys and values [n, heads, u, d], on a CPU.

    ``mask`` [n or 1, 1, t or 1, u]: True where a pair is seen; None: all are. Every query must see
    a key.
    """
    if torch.is_autocast_enabled("cpu"):  # which does not see products into a given tensor
        kind = torch.get_autocast_dtype("cpu")
        query, key, value = query.to(kind), key.to(kind), value.to(kind)
    bias = None
    if mask is not None:
        zero = torch.zeros((), dtype=query.dtype)
        bias = torch.where(mask, zero, zero - float("inf"))
    return _Blocks.apply(query, key, value, bias, dropout, scale)


class _Blocks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor,
        bias: Tensor | None, p: float, scale: float,
    ) -> Tensor:  # fmt: skip
        query, key, value = (query * scale).contiguous(), key.contiguous(), value.contiguous()
        pairs = (*query.shape[:3], key.shape[2])
        keeps = torch.empty(pairs, dtype=torch.uint8) if p else None
        scaled = value * share(p) if p else value
        output = torch.empty_like(query)
        for at, weights, _ in _weighed(query, key, bias):
            if keeps is not None:
                weights.mul_(draw_into(keeps[at], p))
            torch.bmm(_flat(weights), _flat(scaled[at]), out=_flat(output[at]))
        ctx.save_for_backward(query, key, value, bias, keeps)
        ctx.p, ctx.scale = p, scale
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, bias, keeps = ctx.saved_tensors
        of_query, of_key, of_value = ctx.needs_input_grad[:3]
        grad = grad.contiguous() * share(ctx.p) if ctx.p else grad.contiguous()
        grads = [
            torch.empty_like(each) if needed else None
            for each, needed in ((query, of_query), (key, of_key), (value, of_value))
        ]
        for at, weights, scores in _weighed(query, key, bias):
            out = _flat(grad[at])
            if of_query or of_key:
                # With W the weights before dropout and G = (∂L/∂O · Vᵀ) ∘ keep / (1 − p):
                # ∂L/∂scores = W ∘ (G − Σⱼ Gⱼ·Wⱼ).
                torch.bmm(out, _flat(value[at]).transpose(1, 2), out=_flat(scores))
                if keeps is not None:
                    scores.mul_(keeps[at])
                torch.ops.aten._softmax_backward_data.out(
                    scores, weights, -1, query.dtype, grad_input=scores
                )
            if grads[0] is not None:
                torch.bmm(_flat(scores), _flat(key[at]), out=_flat(grads[0][at]))
            if grads[1] is not None:
                torch.bmm(_flat(scores).transpose(1, 2), _flat(query[at]), out=_flat(grads[1][at]))
            if grads[2] is not None:
                if keeps is not None:
                    weights.mul_(keeps[at])
                torch.bmm(_flat(weights).transpose(1, 2), out, out=_flat(grads[2][at]))
        if grads[0] is not None:
            grads[0].mul_(ctx.scale)
        return (*grads, None, None, None)


def _weighed(query: Tensor, key: Tensor, bias: Tensor | None) -> Iterator[_Block]:
    """softmax(Q·Kᵀ + bias), a block at a time: its place, the weights, and the room of its scores.

    Every block takes the two buffers [rows, heads, t, u] over from the one before it.
    """
    (n, heads, t, _), u = query.shape, key.shape[2]
    rows, some = _sides(n, heads, t * u)
    room = [query.new_empty(rows * some * t * u) for _ in range(2)]
    for row in range(0, n, rows):
        for head in range(0, heads, some):
            at = slice(row, row + rows), slice(head, head + some)
            shape = (*query[at].shape[:3], u)
            scores, weights = (each[: math.prod(shape)].view(shape) for each in room)
            torch.bmm(_flat(query[at]), _flat(key[at]).transpose(1, 2), out=_flat(scores))
            if bias is not None:
                scores.add_(bias[at[0]] if bias.shape[0] > 1 else bias)
            torch.ops.aten._softmax.out(scores, -1, False, out=weights)
            yield at, weights, scores


def _sides(n: int, heads: int, pairs: int) -> tuple[int, int]:
    """How many rows and heads a block takes: whole rows, or else heads of one."""
    some = min(heads, max(1, _BLOCK // pairs))
    return (min(n, max(1, _BLOCK // (heads * pairs))), heads) if some == heads else (1, some)


def _flat(block: Tensor) -> Tensor:
    """[rows, heads, …] as [rows·heads, …], without a copy: of whole rows, or heads of one."""
    return block.view(-1, *block.shape[2:])
