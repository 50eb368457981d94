"""Attention on a CPU in blocks that fit its cache, recomputed in the backward pass.

    O = (softmax(s·Q·Kᵀ + mask) ∘ keep / (1 − p)) · V

The weights [n, heads, t, u] of long rows are the largest tensors of a step: with the dropout mask
and their product, 12 bytes per pair are saved for the backward pass and read again from memory.
Here, each block of heads is scored, normalized, dropped out and multiplied before the next one, in
buffers that all blocks share. Only Q, K, V and one byte per pair, the dropout mask, are saved. The
backward pass computes the weights again: one product in addition to the five that it needs (Dao et
al. 2022, arXiv 2205.14135, §3.1 and appendix B.2; their tiles within the softmax of a row are not
needed if a row fits in the cache).

Results equal the plain products, except for the rounding of 1 / (1 − p), which multiplies V here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bertft.models.dropout import apply_keep_mask, draw_keep_mask, inverse_keep_prob

__all__ = [
    "BLOCKWISE_MIN_PAIRS",
    "attend_in_blocks",
    "block_gradients",
    "blockwise_attention",
]

BLOCKWISE_MIN_PAIRS = 1 << 20
"""Pairs from which blocks are at least as fast as plain products, which save more memory."""

_PAIRS_PER_BLOCK = 1 << 18  # 1 MB per buffer in fp32

_SoftmaxBlock = tuple[tuple[slice, slice], Tensor, Tensor]


def blockwise_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float, scale: float
) -> Tensor:
    """Attention on a CPU.

    Args:
        query: [n, heads, t, d].
        key: [n, heads, u, d].
        value: [n, heads, u, d].
        mask: Bool [n or 1, 1, t or 1, u], True for pairs that attend; None: all do. Every query
            must attend to at least one key.
        dropout: Dropout rate of the weights, below 1.
        scale: s.

    Returns:
        [n, heads, t, d].
    """
    if torch.is_autocast_enabled("cpu"):  # autocast does not apply to products with ``out=``
        dtype = torch.get_autocast_dtype("cpu")
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    bias = None
    if mask is not None:
        zero = torch.zeros((), dtype=query.dtype)
        bias = torch.where(mask, zero, zero - float("inf"))
    return _BlockwiseAttention.apply(query, key, value, bias, dropout, scale)


class _BlockwiseAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor | None,
        p: float,
        scale: float,
    ) -> Tensor:
        query, key, value = (query * scale).contiguous(), key.contiguous(), value.contiguous()
        value = value * inverse_keep_prob(p) if p else value
        output, keep_mask = attend_in_blocks(query, key, value, bias, p)
        ctx.save_for_backward(query, key, value, bias, keep_mask)
        ctx.p, ctx.scale = p, scale
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        needs = ctx.needs_input_grad[:3]
        saved_query, saved_key, saved_value, bias, keep_mask = ctx.saved_tensors
        query, key, value = block_gradients(
            grad.contiguous(), saved_query, saved_key, saved_value, bias, keep_mask, needs
        )
        if query is not None:
            query.mul_(ctx.scale)
        if value is not None and ctx.p:
            value.mul_(inverse_keep_prob(ctx.p))
        return query, key, value, None, None, None


def attend_in_blocks(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, p: float
) -> tuple[Tensor, Tensor | None]:
    """(softmax(Q·Kᵀ + bias) ∘ keep)·V, and the dropout mask; not differentiable.

    Q is scaled by s and V by 1 / (1 − p). All are contiguous, in the shapes of
    ``blockwise_attention``.
    """
    mask_shape = (*query.shape[:3], key.shape[2])
    keep_mask = torch.empty(mask_shape, dtype=torch.int8) if p else None
    output = query.new_empty((*query.shape[:3], value.shape[3]))
    for block, weights, _ in _softmax_blocks(query, key, bias):
        if keep_mask is not None:
            block_mask = draw_keep_mask(weights.shape, p, weights.dtype)
            keep_mask[block] = block_mask
            apply_keep_mask(weights, block_mask, out=weights)
        torch.bmm(
            _flatten_heads(weights),
            _flatten_heads(value[block]),
            out=_flatten_heads(output[block]),
        )
    return output, keep_mask


def block_gradients(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    keep_mask: Tensor | None,
    needs: Sequence[bool],
) -> list[Tensor | None]:
    """Gradients of the arguments Q, K and V of ``attend_in_blocks`` that ``needs`` asks for."""
    grads = [
        torch.empty_like(tensor) if needed else None
        for tensor, needed in zip((query, key, value), needs, strict=True)
    ]
    for block, weights, scores in _softmax_blocks(query, key, bias):
        block_grad = _flatten_heads(grad[block])
        if needs[0] or needs[1]:
            # With W the weights before dropout and G = (∂L/∂O · Vᵀ) ∘ keep:
            # ∂L/∂scores = W ∘ (G − Σⱼ Gⱼ·Wⱼ).
            torch.bmm(
                block_grad,
                _flatten_heads(value[block]).transpose(1, 2),
                out=_flatten_heads(scores),
            )
            if keep_mask is not None:
                apply_keep_mask(scores, keep_mask[block], out=scores)
            torch.ops.aten._softmax_backward_data.out(
                scores, weights, -1, query.dtype, grad_input=scores
            )
        if grads[0] is not None:
            torch.bmm(
                _flatten_heads(scores),
                _flatten_heads(key[block]),
                out=_flatten_heads(grads[0][block]),
            )
        if grads[1] is not None:
            torch.bmm(
                _flatten_heads(scores).transpose(1, 2),
                _flatten_heads(query[block]),
                out=_flatten_heads(grads[1][block]),
            )
        if grads[2] is not None:
            if keep_mask is not None:
                apply_keep_mask(weights, keep_mask[block], out=weights)
            torch.bmm(
                _flatten_heads(weights).transpose(1, 2),
                block_grad,
                out=_flatten_heads(grads[2][block]),
            )
    return grads


def _softmax_blocks(query: Tensor, key: Tensor, bias: Tensor | None) -> Iterator[_SoftmaxBlock]:
    """softmax(Q·Kᵀ + bias), block by block: its slices, its weights, and the buffer of its scores.

    All blocks share the two buffers [rows, heads, t, u].
    """
    (n, heads, t, _), u = query.shape, key.shape[2]
    rows_per_block, heads_per_block = _block_shape(n, heads, t * u)
    buffers = [query.new_empty(rows_per_block * heads_per_block * t * u) for _ in range(2)]
    for row in range(0, n, rows_per_block):
        for head in range(0, heads, heads_per_block):
            block = slice(row, row + rows_per_block), slice(head, head + heads_per_block)
            shape = (*query[block].shape[:3], u)
            scores, weights = (buffer[: math.prod(shape)].view(shape) for buffer in buffers)
            torch.bmm(
                _flatten_heads(query[block]),
                _flatten_heads(key[block]).transpose(1, 2),
                out=_flatten_heads(scores),
            )
            if bias is not None:
                scores.add_(bias[block[0]] if bias.shape[0] > 1 else bias)
            torch.ops.aten._softmax.out(scores, -1, False, out=weights)
            yield block, weights, scores


def _block_shape(n: int, heads: int, pairs: int) -> tuple[int, int]:
    """Rows and heads of a block: several whole rows, or some heads of one row."""
    heads_per_block = min(heads, max(1, _PAIRS_PER_BLOCK // pairs))
    if heads_per_block < heads:
        return 1, heads_per_block
    return min(n, max(1, _PAIRS_PER_BLOCK // (heads * pairs))), heads


def _flatten_heads(block: Tensor) -> Tensor:
    """[rows, heads, ...] → [rows·heads, ...] without a copy."""
    return block.view(-1, *block.shape[2:])
