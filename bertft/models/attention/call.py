"""What one layer asks of attention, and the steps that every form of it shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bertft.models.attention import blocks
from bertft.models.dropout import dropout
from bertft.models.sequences import Sequences

__all__ = ["Call", "dense", "join", "mask_of", "visible"]


@dataclass(frozen=True)
class Call:
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
    def before(self) -> int:
        """L, the places that the prefix takes before the keys."""
        return 0 if self.prefix is None else self.prefix.shape[2]


def join(prefix: Tensor | None, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Put the prefix before the keys and values [n, heads, t, d] of each row."""
    if prefix is None:
        return key, value
    before = prefix.unsqueeze(1).expand(2, key.shape[0], -1, -1, -1)
    return torch.cat([before[0], key], 2), torch.cat([before[1], value], 2)


def visible(seen: Tensor | None, length: int, call: Call) -> Tensor | None:
    """Bool mask [n or 1, 1, t or 1, L + t] of the pairs that see each other; None: all do.

    ``seen`` [n, t]: which keys every query sees; [n, t, t]: which key each query sees.
    """
    mask = None
    if call.window is not None and call.window < length:
        steps = torch.arange(length, device=call.query.device)
        mask = ((steps[:, None] - steps[None, :]).abs() < call.window)[None, None]
    if seen is not None:
        pairs = seen[:, None, None, :] if seen.dim() == 2 else seen[:, None]
        if mask is None:
            mask = pairs
        else:
            # Padding beyond every token's window sees itself: a softmax over nothing is NaN, and
            # its gradient reaches the values of real tokens.
            own = torch.eye(length, dtype=torch.bool, device=call.query.device)
            mask = mask & pairs | own
    if mask is not None and call.before:
        shape = (*mask.shape[:-1], call.before)
        mask = torch.cat([mask.new_ones(shape), mask], -1)
    return mask


def mask_of(
    sequences: Sequences, first: int, seen: Callable[[], Tensor | None], length: int, call: Call
) -> Tensor | None:
    """``visible`` of the rows from ``first`` on, made by the first layer that asks for it.

    On an accelerator 0 and −∞: its kernel would make it so in every layer, and keep each until the
    backward pass.
    """
    key = (first, call.window, call.query.dtype)
    if key not in sequences.masks:
        mask = visible(seen(), length, call)
        if mask is not None and call.query.device.type != "cpu":
            # In rows of a multiple of 8, or the kernel would copy it into such in every layer.
            *rows, width = mask.shape
            room = torch.zeros(
                *rows, -(-width // 8) * 8, dtype=call.query.dtype, device=mask.device
            )
            mask = room[..., :width].masked_fill_(~mask, float("-inf"))
        sequences.masks[key] = mask
    return sequences.masks[key]


def dense(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, call: Call) -> Tensor:
    """Rows [n, heads, t, d] that attend within themselves, by what is quickest for them.

    ``mask`` is that of ``mask_of``.

    On an accelerator torch's fused kernel is, and on a CPU where nothing is to be learnt, from 8
    tokens to 384. Its backward pass on a CPU is not, and it knows no dropout there: short rows are
    multiplied out, long ones too, in blocks.
    """
    if query.device.type != "cpu" or not (call.dropout or torch.is_grad_enabled()):
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=call.dropout, scale=call.scale
        )
    pairs = query.shape[:3].numel() * key.shape[2]
    if pairs >= blocks.LARGE and call.dropout < 1:
        return blocks.in_blocks(query, key, value, mask, call.dropout, call.scale)
    scores = torch.matmul(query * call.scale, key.transpose(2, 3))
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    weights = torch.softmax(scores, -1)
    if call.dropout:
        weights = dropout(weights, call.dropout)
    return torch.matmul(weights, value)
