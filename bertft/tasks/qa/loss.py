"""Cross entropy over the tokens of each sequence alone, whatever the batch's layout.

    ℓ = ½ (−log softmax(s)_a − log softmax(e)_b)    over a window's logits s, e and its target a, b

transformers' own loss takes the softmax over padding too, and so depends on the layout.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from bertft.tasks.shared.apart import pad_sequences

__all__ = ["span_loss"]


def span_loss(logits: Tensor, lengths: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Σ ℓ over the sequences; ``logits`` [N, 2], ``lengths`` [B], ``start`` and ``end`` [B]."""
    of_start = F.cross_entropy(pad_sequences(logits[:, 0], lengths), start, reduction="sum")
    of_end = F.cross_entropy(pad_sequences(logits[:, 1], lengths), end, reduction="sum")
    return (of_start + of_end) / 2
