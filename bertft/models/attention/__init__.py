"""Attention as one function, registered in transformers' ``AttentionInterface``.

    softmax(Q·[P_K; K]ᵀ · scale + mask) · [P_V; V]      within each sequence

P_K and P_V are the layer's prefix (Li & Liang 2021, arXiv 2101.00190; Liu et al. 2022,
arXiv 2110.07602, §3). The function also runs sequences without padding, and records queries, keys
and values for a distillation loss: nothing else in the model has to know about any of the three.

The model passes ``forward_state`` through its keyword arguments. It states the lengths, so the
mask function that is registered with the attention function returns no mask.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bertft.errors import BertftError
from bertft.models.attention import blockwise, varlen
from bertft.models.dropout import dropout as fast_dropout
from bertft.models.forward_state import AttentionInputs, ForwardState
from bertft.models.sequence_layout import AttentionChunk, map_chunks

__all__ = [
    "ATTENTION_NAME",
    "attend_chunks",
    "attend_rows",
    "attention_forward",
    "cached_mask",
    "prepend_prefix",
    "register_attention",
    "sdpa",
    "visibility_mask",
]

ATTENTION_NAME = "bertft"


def register_attention() -> None:
    """Make ``attn_implementation="bertft"`` known to transformers; safe to call again."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(ATTENTION_NAME, attention_forward)
    AttentionMaskInterface.register(ATTENTION_NAME, _return_no_mask)


def _return_no_mask(*_: Any, **__: Any) -> None:
    return None


def attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    forward_state: ForwardState | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of one layer, with the signature of transformers' ``AttentionInterface``.

    Shapes: query, key, value [b, heads, t, d] → [b, t, heads, d]; (b, t) is the layout's shape.
    """
    if forward_state is None:
        raise BertftError("the encoder ran without a forward state; call it with EncoderRunner")
    layout = forward_state.layout
    # ALBERT shares one module among its layers, so its calls are counted instead.
    layer = getattr(module, "layer_idx", None)
    layer = forward_state.attention_calls if layer is None else layer
    forward_state.attention_calls += 1
    prefix = None
    if forward_state.prefix is not None:
        heads, width = key.shape[1], key.shape[3]
        key_and_value = forward_state.prefix[layer].to(key.dtype)
        prefix = key_and_value.view(2, -1, heads, width).transpose(1, 2)
    inputs = AttentionInputs(
        query,
        key,
        value,
        prefix,
        dropout,
        scale=query.shape[-1] ** -0.5 if scaling is None else scaling,
        # ModernBERT's window: module.sliding_window is half + 1, and |i - j| < half + 1 is visible.
        window=sliding_window,
    )
    if forward_state.recorder is not None:
        forward_state.recorder.record(layer, inputs, layout)
    if layout.kind != "unpadded":
        return attend_rows(inputs, forward_state), None
    if not query.is_cpu and varlen.is_varlen_supported(inputs):
        return varlen.attend_varlen(inputs, layout), None
    return attend_chunks(inputs, forward_state), None


def attend_chunks(inputs: AttentionInputs, state: ForwardState) -> Tensor:
    """Attention over unpadded tokens, chunk by chunk: [1, W, heads, d]."""
    layout = state.layout

    def attend(chunk: AttentionChunk, rows: list[Tensor]) -> Tensor:
        query, key, value = (row.transpose(1, 2) for row in rows)
        visible_keys = partial(layout.visible_keys, chunk)
        mask = cached_mask(state, chunk.first_sequence, visible_keys, chunk.max_length, inputs)
        key, value = prepend_prefix(inputs.prefix, key, value)
        return sdpa(query, key, value, mask, inputs).transpose(1, 2)  # [n, T, heads, d]

    # [1, heads, W, d] came from a transpose of [1, W, heads, d]: go back without a copy.
    tensors = [tensor[0].transpose(0, 1) for tensor in (inputs.query, inputs.key, inputs.value)]
    return map_chunks(tensors, layout, attend).unsqueeze(0)


def attend_rows(inputs: AttentionInputs, state: ForwardState) -> Tensor:
    """Attention over padded or packed rows: [b, t, heads, d], (b, t) the layout's shape."""
    layout = state.layout
    mask = cached_mask(state, 0, layout.visible_keys, layout.shape[1], inputs)
    key, value = prepend_prefix(inputs.prefix, inputs.key, inputs.value)
    if layout.kind == "packed":
        return sdpa(inputs.query, key, value, mask, inputs).transpose(1, 2)
    output = F.scaled_dot_product_attention(
        inputs.query, key, value, attn_mask=mask, dropout_p=inputs.dropout, scale=inputs.scale
    )
    return output.transpose(1, 2)


def prepend_prefix(prefix: Tensor | None, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Put the prefix before the keys and values [n, heads, t, d] of each row."""
    if prefix is None:
        return key, value
    expanded_prefix = prefix.unsqueeze(1).expand(2, key.shape[0], -1, -1, -1)
    return torch.cat([expanded_prefix[0], key], 2), torch.cat([expanded_prefix[1], value], 2)


def cached_mask(
    state: ForwardState,
    first_sequence: int,
    make_visible_keys: Callable[[], Tensor | None],
    query_length: int,
    inputs: AttentionInputs,
) -> Tensor | None:
    """``visibility_mask`` of a chunk or of all rows, computed by the first layer that needs it.

    On a CPU a bool mask; on an accelerator 0 and −∞ in the type of the queries, which its kernel
    would otherwise compute in every layer and keep until the backward pass.

    Args:
        state: Holds the masks.
        first_sequence: Identifies the chunk; 0 for rows.
        make_visible_keys: Computes ``visible_keys`` of ``visibility_mask``.
        query_length: t, queries per row.
        inputs: The layer's inputs: window, prefix, type and device.
    """
    key = (first_sequence, inputs.window, inputs.query.dtype)
    if key not in state.masks:
        mask = visibility_mask(make_visible_keys(), query_length, inputs)
        if mask is not None and not inputs.query.is_cpu:
            # Rows are a multiple of 8 wide in memory, or the kernel would copy them in every layer.
            *leading_dims, width = mask.shape
            aligned_mask = torch.zeros(
                *leading_dims, -(-width // 8) * 8, dtype=inputs.query.dtype, device=mask.device
            )
            mask = aligned_mask[..., :width].masked_fill_(~mask, float("-inf"))
        state.masks[key] = mask
    return state.masks[key]


def visibility_mask(
    visible_keys: Tensor | None, query_length: int, inputs: AttentionInputs
) -> Tensor | None:
    """Bool mask [n or 1, 1, t or 1, L + t] of the pairs that attend; None: all pairs do.

    Args:
        visible_keys: [n, t], the keys that every query attends to, or [n, t, t], the keys that each
            query attends to; None: all.
        query_length: t.
        inputs: The layer's inputs, with its window and prefix of L keys.
    """
    mask = None
    if inputs.window is not None and inputs.window < query_length:
        positions = torch.arange(query_length, device=inputs.query.device)
        mask = ((positions[:, None] - positions[None, :]).abs() < inputs.window)[None, None]
    if visible_keys is not None:
        pairs = visible_keys[:, None, None, :] if visible_keys.dim() == 2 else visible_keys[:, None]
        if mask is None:
            mask = pairs
        else:
            # Padding outside every token's window attends to itself: a softmax over nothing is NaN,
            # and its gradient reaches the values of real tokens.
            diagonal = torch.eye(query_length, dtype=torch.bool, device=inputs.query.device)
            mask = mask & pairs | diagonal
    if mask is not None and inputs.prefix_length:
        shape = (*mask.shape[:-1], inputs.prefix_length)
        mask = torch.cat([mask.new_ones(shape), mask], -1)
    return mask


def sdpa(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, inputs: AttentionInputs
) -> Tensor:
    """Scaled dot-product attention within rows [n, heads, t, d], by the fastest implementation.

    That is torch's fused kernel on an accelerator, and on a CPU without gradients from 8 to 384
    tokens. Its backward pass on a CPU is slow and has no dropout: there, products are written out,
    of long rows block by block. ``mask`` is that of ``cached_mask``.
    """
    if not query.is_cpu or not (inputs.dropout or torch.is_grad_enabled()):
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=inputs.dropout, scale=inputs.scale
        )
    pairs = query.shape[:3].numel() * key.shape[2]
    if pairs >= blockwise.BLOCKWISE_MIN_PAIRS and inputs.dropout < 1:
        return blockwise.blockwise_attention(query, key, value, mask, inputs.dropout, inputs.scale)
    scores = torch.matmul(query * inputs.scale, key.transpose(2, 3))
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    weights = torch.softmax(scores, -1)
    if inputs.dropout:
        weights = fast_dropout(weights, inputs.dropout)
    return torch.matmul(weights, value)
