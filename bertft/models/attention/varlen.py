"""Attention over unpadded sequences with torch's flash kernel for varying lengths (CUDA).

A prefix is interleaved, sequence by sequence. Merging its attention afterwards would need the
gradient of the kernel's log-sum-exp, which the kernel does not compute.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import torch
from torch import Tensor

from bertft.models.forward_state import AttentionInputs
from bertft.models.sequence_layout import SequenceLayout

__all__ = ["attend_varlen", "interleave_prefix", "is_varlen_available", "is_varlen_supported"]


@functools.cache
def is_varlen_available(device: torch.device) -> bool:
    """Whether torch has the kernel and ``device`` supports it: NVIDIA, Ampere or newer."""
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


def is_varlen_supported(inputs: AttentionInputs) -> bool:
    """Whether the kernel supports these inputs: half precision, no dropout, a fitting head size.

    A window and a prefix together are not supported: the window would count the prefix's keys as
    distance. The head size must be a multiple of 8 (scaled_dot_product_attention pads it, this
    kernel does not) and at most 192, above which some devices have no backward pass.
    """
    if inputs.dropout or inputs.query.dtype not in (torch.bfloat16, torch.float16):
        return False
    if inputs.query.shape[-1] % 8 or inputs.query.shape[-1] > 192:
        return False
    if inputs.window is not None and inputs.prefix is not None:
        return False
    return is_varlen_available(inputs.query.device) and (
        inputs.window is None or _supports_window()
    )


@functools.cache
def _supports_window() -> bool:
    from torch.nn.attention.varlen import varlen_attn

    return "window_size" in inspect.signature(varlen_attn).parameters


def attend_varlen(inputs: AttentionInputs, layout: SequenceLayout) -> Tensor:
    """Attention over all unpadded tokens in one call: [1, N, heads, d]."""
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (tensor[0].transpose(0, 1) for tensor in (inputs.query, inputs.key, inputs.value))
    cu_seqlens = layout.cu_seqlens()
    key_cu_seqlens, max_key_length = cu_seqlens, layout.max_length
    if inputs.prefix is not None:
        sequence_count = len(layout.lengths)
        sequence_numbers = torch.arange(
            sequence_count + 1, device=cu_seqlens.device, dtype=cu_seqlens.dtype
        )
        key_cu_seqlens = cu_seqlens + inputs.prefix_length * sequence_numbers
        max_key_length += inputs.prefix_length
        prefix_keys, prefix_values = inputs.prefix.transpose(1, 2)
        k = interleave_prefix(prefix_keys, k, layout)
        v = interleave_prefix(prefix_values, v, layout)
    window_arguments: dict[str, Any] = {}
    if inputs.window is not None:
        window_arguments["window_size"] = (inputs.window - 1, inputs.window - 1)
    output: Any = varlen_attn(
        q.contiguous(),
        k.contiguous(),
        v.contiguous(),
        cu_seqlens,
        key_cu_seqlens,
        layout.max_length,
        max_key_length,
        scale=inputs.scale,
        **window_arguments,
    )
    attention_output: Tensor = output.unsqueeze(0)
    return attention_output


def interleave_prefix(prefix: Tensor, tokens: Tensor, layout: SequenceLayout) -> Tensor:
    """[L, heads, d] before each sequence of [N, heads, d] → [N + B·L, heads, d]."""
    sequence_count, prefix_length = len(layout.lengths), prefix.shape[0]
    token_positions = torch.arange(tokens.shape[0], device=tokens.device)
    token_positions = token_positions + prefix_length * (layout.sequence_ids()[0] + 1)
    sequence_starts = layout.cu_seqlens()[:-1].long() + prefix_length * torch.arange(
        sequence_count, device=tokens.device
    )
    prefix_positions = sequence_starts[:, None] + torch.arange(prefix_length, device=tokens.device)
    joined = tokens.new_empty((tokens.shape[0] + sequence_count * prefix_length, *tokens.shape[1:]))
    joined = joined.index_copy(0, token_positions, tokens)
    return joined.index_copy(0, prefix_positions.flatten(), prefix.repeat(sequence_count, 1, 1))
