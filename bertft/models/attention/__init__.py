"""Attention as one function, registered in transformers' ``AttentionInterface``.

    softmax(Q·[P_K; K]ᵀ · scaling + mask) · [P_V; V]      within each sequence

It sees the calling module, so three things live here and nowhere else: the per-layer prefix
P_K, P_V (Li & Liang 2021, arXiv 2101.00190; Liu et al. 2022, arXiv 2110.07602, §3), padding-free
execution, and whatever a distillation loss asks of queries, keys and values.

The batch comes as ``sequences`` (see ``bertft.models.sequence_layout``) through the model's keyword
arguments. The mask function of the same name returns nothing: the lengths say it all.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from bertft.errors import BertftError
from bertft.models.attention import sdpa, varlen
from bertft.models.attention.sdpa import AttentionInputs
from bertft.models.sequence_layout import SequenceLayout

__all__ = ["ATTENTION_NAME", "attention_forward", "register_attention"]

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
    sequences: SequenceLayout | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Query, key, value [b, heads, t, d] → [b, t, heads, d]; (b, t) is ``sequences.shape``."""
    if sequences is None:
        raise BertftError("the encoder ran without its sequences; call it through EncoderRunner")
    # ALBERT shares one module among its layers, so its calls are counted instead.
    layer = getattr(module, "layer_idx", None)
    layer = sequences.attention_calls if layer is None else layer
    sequences.attention_calls += 1
    prefix = None
    if sequences.prefix is not None:
        heads, width = key.shape[1], key.shape[3]
        key_and_value = sequences.prefix[layer].to(key.dtype)
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
    if sequences.recorder is not None:
        sequences.recorder.record(layer, inputs, sequences)
    if sequences.kind != "unpadded":
        return sdpa.attend_rows(inputs, sequences), None
    if varlen.is_varlen_supported(inputs):
        return varlen.attend_varlen(inputs, sequences), None
    return sdpa.attend_chunks(inputs, sequences), None
