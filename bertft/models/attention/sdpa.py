"""What one layer asks of attention, and the steps that every form of it shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from bertft.models.attention import blockwise
from bertft.models.dropout import dropout
from bertft.models.sequence_layout import AttentionChunk, SequenceLayout, pad_chunk, unpad_chunk

__all__ = [
    "AttentionInputs",
    "attend_chunks",
    "attend_rows",
    "cached_mask",
    "prepend_prefix",
    "sdpa",
    "visibility_mask",
]


def attend_rows(inputs: AttentionInputs, state: SequenceLayout) -> Tensor:
    """[n, t, heads, d], (n, t) the layout's shape."""
    mask = cached_mask(state, 0, partial(_visible_keys_of_rows, state), state.shape[1], inputs)
    key, value = prepend_prefix(inputs.prefix, inputs.key, inputs.value)
    if state.kind == "packed":
        return sdpa(inputs.query, key, value, mask, inputs).transpose(1, 2)
    output = F.scaled_dot_product_attention(
        inputs.query, key, value, attn_mask=mask, dropout_p=inputs.dropout, scale=inputs.scale
    )
    return output.transpose(1, 2)


def _visible_keys_of_rows(layout: SequenceLayout) -> Tensor | None:
    if layout.kind == "packed":
        sequence_ids = layout.sequence_ids()
        return sequence_ids[:, :, None] == sequence_ids[:, None, :]
    return None if min(layout.lengths) == layout.max_length else layout.token_mask()


def attend_chunks(inputs: AttentionInputs, state: SequenceLayout) -> Tensor:
    """[1, N, heads, d]."""
    # [1, heads, N, d] came from a transpose of [1, N, heads, d]: go back without a copy. Split, not
    # sliced: a slice's gradient is as large as all tokens.
    sizes = [run.token_end - run.token_start for run in state.chunks]
    q, k, v = (
        tensor[0].transpose(0, 1).split(sizes)
        for tensor in (inputs.query, inputs.key, inputs.value)
    )
    pieces = []
    for chunk, *chunk_tokens in zip(state.chunks, q, k, v, strict=True):
        qs, ks, vs = (pad_chunk(each, chunk, state).transpose(1, 2) for each in chunk_tokens)
        mask = cached_mask(
            state,
            chunk.first_sequence,
            partial(_visible_keys_of_chunk, chunk, state),
            chunk.max_length,
            inputs,
        )
        ks, vs = prepend_prefix(inputs.prefix, ks, vs)
        output = sdpa(qs, ks, vs, mask, inputs).transpose(1, 2)  # [n, T, heads, d]
        pieces.append(unpad_chunk(output, chunk, state))
    return torch.cat(pieces).unsqueeze(0) if len(pieces) > 1 else pieces[0].unsqueeze(0)


def _visible_keys_of_chunk(chunk: AttentionChunk, layout: SequenceLayout) -> Tensor | None:
    return None if chunk.equal_lengths else layout.chunk_token_mask(chunk)


@dataclass(frozen=True)
class AttentionInputs:
    """``query``, ``key``, ``value`` [b, heads, t, d]; ``prefix`` [2, heads, L, d] or None.

    ``window``: the pairs with |i − j| < window see each other, and all see the prefix; None: all.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    prefix: Tensor | None
    dropout: float
    scale: float
    window: int | None

    @property
    def prefix_length(self) -> int:
        """L, the places that the prefix takes before the keys."""
        return 0 if self.prefix is None else self.prefix.shape[2]


def prepend_prefix(prefix: Tensor | None, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Put the prefix before the keys and values [n, heads, t, d] of each row."""
    if prefix is None:
        return key, value
    expanded_prefix = prefix.unsqueeze(1).expand(2, key.shape[0], -1, -1, -1)
    return torch.cat([expanded_prefix[0], key], 2), torch.cat([expanded_prefix[1], value], 2)


def visibility_mask(
    visible_keys: Tensor | None, query_length: int, inputs: AttentionInputs
) -> Tensor | None:
    """Bool mask [n or 1, 1, t or 1, L + t] of the pairs that see each other; None: all do.

    ``visible_keys`` [n, t]: which keys every query sees; [n, t, t]: which key each query sees.
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
            # Padding beyond every token's window sees itself: a softmax over nothing is NaN, and
            # its gradient reaches the values of real tokens.
            diagonal = torch.eye(query_length, dtype=torch.bool, device=inputs.query.device)
            mask = mask & pairs | diagonal
    if mask is not None and inputs.prefix_length:
        shape = (*mask.shape[:-1], inputs.prefix_length)
        mask = torch.cat([mask.new_ones(shape), mask], -1)
    return mask


def cached_mask(
    state: SequenceLayout,
    first_sequence: int,
    make_visible_keys: Callable[[], Tensor | None],
    query_length: int,
    inputs: AttentionInputs,
) -> Tensor | None:
    """``visibility_mask`` of the rows from ``first_sequence`` on, made by the first layer that asks
    for it.

    On an accelerator 0 and −∞: its kernel would make it so in every layer, and keep each until the
    backward pass.
    """
    key = (first_sequence, inputs.window, inputs.query.dtype)
    if key not in state.masks:
        mask = visibility_mask(make_visible_keys(), query_length, inputs)
        if mask is not None and inputs.query.device.type != "cpu":
            # In rows of a multiple of 8, or the kernel would copy it into such in every layer.
            *leading_dims, width = mask.shape
            aligned_mask = torch.zeros(
                *leading_dims, -(-width // 8) * 8, dtype=inputs.query.dtype, device=mask.device
            )
            mask = aligned_mask[..., :width].masked_fill_(~mask, float("-inf"))
        state.masks[key] = mask
    return state.masks[key]


def sdpa(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, inputs: AttentionInputs
) -> Tensor:
    """Rows [n, heads, t, d] that attend within themselves, by what is quickest for them.

    ``mask`` is that of ``cached_mask``.

    On an accelerator torch's fused kernel is, and on a CPU where nothing is to be learnt, from 8
    tokens to 384. Its backward pass on a CPU is not, and it knows no dropout there: short rows are
    multiplied out, long ones too, in blocks.
    """
    if query.device.type != "cpu" or not (inputs.dropout or torch.is_grad_enabled()):
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
        weights = dropout(weights, inputs.dropout)
    return torch.matmul(weights, value)
