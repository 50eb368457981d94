"""Attention over unpadded sequences by torch's flash kernel for sequences of varying length (CUDA).

The prefix is interleaved, sequence by sequence: the kernel's log-sum-exp, by which it could be
merged, has no gradient.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import torch
from torch import Tensor

from bertft.models.attention.call import Call
from bertft.models.sequences import Sequences

__all__ = ["attend", "interleave", "present", "serves"]


@functools.cache
def present(device: torch.device) -> bool:
    """Whether this torch has the kernel, and ``device`` runs it: NVIDIA's, Ampere or newer."""
    if device.type != "cuda" or torch.version.hip is not None:
        return False
    if torch.cuda.get_device_capability(device) < (8, 0):
        return False
    if not torch.backends.cuda.is_flash_attention_available():  # wheels for Windows lack it
        return False
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return False
    return "scale" in inspect.signature(varlen_attn).parameters


def serves(call: Call) -> bool:
    """Whether the kernel takes this call: half precision, no dropout, on such a device.

    A window would count the prefix's places as distance, so the two together take the runs. Heads
    must be a multiple of 8 wide, which scaled_dot_product_attention pads them to and this does
    not; beyond 192 some devices have no backward pass.
    """
    if call.dropout or call.query.dtype not in (torch.bfloat16, torch.float16):
        return False
    if call.query.shape[-1] % 8 or call.query.shape[-1] > 192:
        return False
    if call.window is not None and call.prefix is not None:
        return False
    return present(call.query.device) and (call.window is None or _takes_window())


@functools.cache
def _takes_window() -> bool:
    from torch.nn.attention.varlen import varlen_attn

    return "window_size" in inspect.signature(varlen_attn).parameters


def attend(call: Call, sequences: Sequences) -> Tensor:
    """[1, N, heads, d]."""
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (each[0].transpose(0, 1) for each in (call.query, call.key, call.value))
    offsets = sequences.offsets()
    key_offsets, longest_key = offsets, sequences.longest
    if call.prefix is not None:
        count = len(sequences.lengths)
        steps = torch.arange(count + 1, device=offsets.device, dtype=offsets.dtype)
        key_offsets, longest_key = offsets + call.before * steps, longest_key + call.before
        k, v = (
            interleave(call.prefix[side].transpose(0, 1), each, sequences)
            for side, each in enumerate((k, v))
        )
    extra: dict[str, Any] = {}
    if call.window is not None:
        extra["window_size"] = (call.window - 1, call.window - 1)
    output: Any = varlen_attn(
        q.contiguous(), k.contiguous(), v.contiguous(), offsets, key_offsets,
        sequences.longest, longest_key, scale=call.scale, **extra,
    )  # fmt: skip
    merged: Tensor = output.unsqueeze(0)
    return merged


def interleave(prefix: Tensor, tokens: Tensor, sequences: Sequences) -> Tensor:
    """[L, heads, d] before each sequence of [N, heads, d] → [N + B·L, heads, d]."""
    count, before = len(sequences.lengths), prefix.shape[0]
    places = torch.arange(tokens.shape[0], device=tokens.device)
    places = places + before * (sequences.owner()[0] + 1)
    starts = sequences.offsets()[:-1].long() + before * torch.arange(count, device=tokens.device)
    spots = starts[:, None] + torch.arange(before, device=tokens.device)
    joined = tokens.new_empty((tokens.shape[0] + count * before, *tokens.shape[1:]))
    joined = joined.index_copy(0, places, tokens)
    return joined.index_copy(0, spots.flatten(), prefix.repeat(count, 1, 1))
