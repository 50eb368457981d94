"""Attention as one function, registered in transformers' ``AttentionInterface``.

    softmax(Q·[P_K; K]ᵀ · scaling + mask) · [P_V; V]      within each sequence

It sees the calling module, so three things live here and nowhere else: the per-layer prefix
P_K, P_V (Li & Liang 2021, arXiv 2101.00190; Liu et al. 2022, arXiv 2110.07602, §3), padding-free
execution, and whatever a distillation loss asks of queries, keys and values.

The batch comes as ``sequences`` (see ``bertft.models.sequences``) through the model's keyword
arguments. The mask function of the same name returns nothing: the lengths say it all.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from bertft.errors import BertftError
from bertft.models.attention import grid, runs, varlen
from bertft.models.attention.call import Call
from bertft.models.sequences import Sequences

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
    """Query, key, value [b, heads, t, d] → [b, t, heads, d]; (b, t) is ``sequences.shape``."""
    if sequences is None:
        raise BertftError("the encoder ran without its sequences; call it through EncoderRunner")
    # ALBERT shares one module among its layers, so its calls are counted instead.
    layer = getattr(module, "layer_idx", None)
    layer = sequences.calls if layer is None else layer
    sequences.calls += 1
    prefix = None
    if sequences.prefix is not None:
        heads, width = key.shape[1], key.shape[3]
        both = sequences.prefix[layer].to(key.dtype)
        prefix = both.view(2, -1, heads, width).transpose(1, 2)
    call = Call(
        query, key, value, prefix, dropout,
        scale=query.shape[-1] ** -0.5 if scaling is None else scaling,
        # ModernBERT's window: module.sliding_window is half + 1, and |i - j| < half + 1 is visible.
        window=sliding_window,
    )  # fmt: skip
    if sequences.trace is not None:
        sequences.trace.record(layer, call, sequences)
    if sequences.layout != "unpadded":
        return grid.attend(call, sequences), None
    if varlen.serves(call):
        return varlen.attend(call, sequences), None
    return runs.attend(call, sequences), None
