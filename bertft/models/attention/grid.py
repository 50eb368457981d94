"""Attention over rows of one width: a sequence a row (padded), or several (rows).

    padded   keys [B, T] beyond a row's sequence are masked
    rows     pairs [R, W, W] of two sequences are masked; the empty cells see each other

The mask sets weights to 0 and no more: in rows, a NaN of one sequence reaches its neighbours.
"""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor

from bertft.models.attention.call import AttentionInputs, sdpa, prepend_prefix, cached_mask
from bertft.models.sequences import SequenceLayout

__all__ = ["attend_rows"]


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
