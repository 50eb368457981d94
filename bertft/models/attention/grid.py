"""Attention over rows of one width: a sequence a row (padded), or several (rows).

    padded   keys [B, T] beyond a row's sequence are masked
    rows     pairs [R, W, W] of two sequences are masked; the empty cells see each other

The mask sets weights to 0 and no more: in rows, a NaN of one sequence reaches its neighbours.
"""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor

from bertft.models.attention.call import Call, dense, join, mask_of
from bertft.models.sequences import Sequences

__all__ = ["attend"]


def attend(call: Call, sequences: Sequences) -> Tensor:
    """[n, t, heads, d], (n, t) the layout's shape."""
    mask = mask_of(sequences, 0, partial(_seen, sequences), sequences.shape[1], call)
    key, value = join(call.prefix, call.key, call.value)
    if sequences.layout == "packed":
        return dense(call.query, key, value, mask, call).transpose(1, 2)
    output = F.scaled_dot_product_attention(
        call.query, key, value, attn_mask=mask, dropout_p=call.dropout, scale=call.scale
    )
    return output.transpose(1, 2)


def _seen(sequences: Sequences) -> Tensor | None:
    if sequences.layout == "packed":
        owner = sequences.owner()
        return owner[:, :, None] == owner[:, None, :]
    return None if min(sequences.lengths) == sequences.longest else sequences.real()
