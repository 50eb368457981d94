"""Attention as one function, registered in transformers' ``AttentionInterface``.

    softmax(Q·[P_K; K]ᵀ · scaling + mask) · [P_V; V]      within each sequence

It sees the calling module, so three things live here and nowhere else: the per-layer prefix
P_K, P_V (Li & Liang 2021, arXiv 2101.00190; Liu et al. 2022, arXiv 2110.07602, §3), padding-free
execution, and whatever a distillation loss asks of queries, keys and values.

The batch comes as ``sequences`` (see ``bertft.models.sequences``) through the model's keyword
arguments. The mask function of the same name returns nothing: the lengths say it all.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bertft.errors import BertftError
from bertft.models.sequences import Run, Sequences

__all__ = ["NAME", "attend", "register"]

NAME = "bertft"


def register() -> None:
    """Make ``attn_implementation="bertft"`` known to transformers; safe to call again."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, _no_mask)


def _no_mask(*_: Any, **__: Any) -> None:
    return None


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    sequences: Sequences | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Query, key, value [b, heads, t, d] → [b, t, heads, d]; (b, t) is (1, N) or (B, T)."""
    if sequences is None:
        raise BertftError("the encoder ran without its sequences; call it through EncoderRunner")
    # ALBERT shares one module among its layers, so its calls are counted instead.
    layer = getattr(module, "layer_idx", None)
    layer = sequences.calls if layer is None else layer
    sequences.calls += 1
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    prefix = None
    if sequences.prefix is not None:
        heads, width = key.shape[1], key.shape[3]
        both = sequences.prefix[layer].to(key.dtype)
        prefix = both.view(2, -1, heads, width).transpose(1, 2)  # [2, heads, L, d]
    # ModernBERT's window: module.sliding_window is half + 1, and |i - j| < half + 1 is visible.
    window = sliding_window
    if sequences.layout == "padded":
        output = _padded(query, key, value, sequences, prefix, dropout, scale, window)
    elif query.is_cuda and _varlen_serves(query, dropout, window, prefix):
        output = _varlen(query, key, value, sequences, prefix, scale, window)
    else:
        output = _runs(query, key, value, sequences, prefix, dropout, scale, window)
    return output, None


def _join(prefix: Tensor | None, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Put the prefix before the keys and values [n, heads, t, d] of each sequence."""
    if prefix is None:
        return key, value
    before = prefix.unsqueeze(1).expand(2, key.shape[0], -1, -1, -1)
    return torch.cat([before[0], key], 2), torch.cat([before[1], value], 2)


def _visible(
    real: Tensor | None, length: int, before: int, window: int | None, device: torch.device
) -> Tensor | None:
    """Bool mask [n or 1, 1, t, L + t] of the pairs that see each other; None: all do."""
    mask = None
    if window is not None and window < length:
        steps = torch.arange(length, device=device)
        mask = ((steps[:, None] - steps[None, :]).abs() < window)[None, None]
    if real is not None:
        columns = real[:, None, None, :]
        if mask is None:
            mask = columns
        else:
            # Padding beyond every token's window sees itself: a softmax over nothing is NaN, and
            # its gradient reaches the values of real tokens.
            mask = mask & columns | torch.eye(length, dtype=torch.bool, device=device)
    if mask is not None and before:
        shape = (*mask.shape[:-1], before)
        mask = torch.cat([mask.new_ones(shape), mask], -1)
    return mask


def _padded(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    sequences: Sequences,
    prefix: Tensor | None,
    dropout: float,
    scale: float,
    window: int | None,
) -> Tensor:
    before = 0 if prefix is None else prefix.shape[2]
    ragged = min(sequences.lengths) != sequences.longest
    real = sequences.real() if ragged else None
    mask = _visible(real, sequences.longest, before, window, query.device)
    key, value = _join(prefix, key, value)
    output = F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, dropout_p=dropout, scale=scale
    )
    return output.transpose(1, 2)


def _explicit(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float, scale: float
) -> Tensor:
    """Plain matmul and softmax: on short rows the CPU's fused kernels are slower, backward too."""
    scores = torch.matmul(query * scale, key.transpose(2, 3))
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    weights = torch.softmax(scores, -1)
    if dropout:
        weights = F.dropout(weights, dropout)
    return torch.matmul(weights, value)


def _runs(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    sequences: Sequences,
    prefix: Tensor | None,
    dropout: float,
    scale: float,
    window: int | None,
) -> Tensor:
    """The stream, one call a run of sequences of about one length."""
    # [1, heads, N, d] came from a transpose of [1, N, heads, d]: go back without a copy.
    q, k, v = (each[0].transpose(0, 1) for each in (query, key, value))  # [N, heads, d]
    before = 0 if prefix is None else prefix.shape[2]
    pieces = []
    for run in sequences.runs:
        qs, ks, vs = (_take(each, run, sequences) for each in (q, k, v))
        real = None if run.equal else sequences.run_real(run)
        mask = _visible(real, run.longest, before, window, query.device)
        ks, vs = _join(prefix, ks, vs)
        output = _explicit(qs, ks, vs, mask, dropout, scale).transpose(1, 2)  # [n, T, heads, d]
        pieces.append(output.flatten(0, 1) if run.equal else output[real])
    return torch.cat(pieces).unsqueeze(0) if len(pieces) > 1 else pieces[0].unsqueeze(0)


def _take(tokens: Tensor, run: Run, sequences: Sequences) -> Tensor:
    """Tokens [N, heads, d] of a run as [n, heads, T, d]."""
    if run.equal:
        part = tokens[run.start : run.stop].unflatten(0, (run.last - run.first, run.longest))
    else:
        part = tokens[sequences.run_cells(run)]
    return part.transpose(1, 2)


def _varlen_serves(
    query: Tensor, dropout: float, window: int | None, prefix: Tensor | None
) -> bool:
    """Flash attention over sequences of varying length: half precision, without dropout, Ampere on.

    A window would count the prefix's places as distance, so the two together take the runs.
    """
    if dropout or query.dtype not in (torch.bfloat16, torch.float16):
        return False
    if window is not None and prefix is not None:
        return False
    if torch.cuda.get_device_capability(query.device) < (8, 0):
        return False
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return False
    known = inspect.signature(varlen_attn).parameters
    return "scale" in known and (window is None or "window_size" in known)


def _varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    sequences: Sequences,
    prefix: Tensor | None,
    scale: float,
    window: int | None,
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (each[0].transpose(0, 1) for each in (query, key, value))  # [N, heads, d]
    offsets = sequences.offsets()
    key_offsets, longest_key = offsets, sequences.longest
    if prefix is not None:
        before = prefix.shape[2]
        count = len(sequences.lengths)
        steps = torch.arange(count + 1, device=offsets.device, dtype=offsets.dtype)
        key_offsets, longest_key = offsets + before * steps, sequences.longest + before
        k, v = (
            _interleave(prefix[side].transpose(0, 1), each, sequences, before)
            for side, each in enumerate((k, v))
        )
    extra: dict[str, Any] = {}
    if window is not None:
        extra["window_size"] = (window - 1, window - 1)
    output: Any = varlen_attn(
        q.contiguous(),
        k.contiguous(),
        v.contiguous(),
        offsets,
        key_offsets,
        sequences.longest,
        longest_key,
        scale=scale,
        **extra,
    )
    merged: Tensor = output.unsqueeze(0)
    return merged


def _interleave(prefix: Tensor, tokens: Tensor, sequences: Sequences, before: int) -> Tensor:
    """[L, heads, d] before each sequence of [N, heads, d] → [N + B·L, heads, d]."""
    count = len(sequences.lengths)
    place = torch.arange(tokens.shape[0], device=tokens.device)
    owner = torch.repeat_interleave(
        torch.arange(count, device=tokens.device),
        (sequences.offsets()[1:] - sequences.offsets()[:-1]).long(),
        output_size=tokens.shape[0],
    )
    place = place + before * (owner + 1)
    joined = tokens.new_empty((tokens.shape[0] + count * before, *tokens.shape[1:]))
    starts = sequences.offsets()[:-1].long() + before * torch.arange(count, device=tokens.device)
    spots = starts[:, None] + torch.arange(before, device=tokens.device)
    joined = joined.index_copy(0, place, tokens)
    return joined.index_copy(0, spots.flatten(), prefix.repeat(count, 1, 1))
