"""Cross entropy over the tokens of each sequence alone, whatever the batch's layout.

    ℓ = ½ (−log softmax(s)_a − log softmax(e)_b)    over a window's logits s, e and its target a, b

transformers' own loss takes the softmax over padding too, and so depends on the layout.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["apart", "span_loss"]


def apart(values: Tensor, lengths: Tensor) -> Tensor:
    """[N] end to end → [B, longest], −∞ where a sequence has no token.

    ``lengths`` lies on the CPU: where the tokens go is planned there, without waiting for
    ``values``.
    """
    longest = int(lengths.max())
    places = torch.arange(longest).unsqueeze(0) < lengths.unsqueeze(1)
    cells = torch.nonzero(places.reshape(-1)).squeeze(1)
    empty = values.new_full((len(lengths) * longest,), float("-inf"))
    filled = empty.index_copy(0, cells.to(values.device, non_blocking=True), values)
    return filled.view(len(lengths), longest)


def span_loss(logits: Tensor, lengths: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Σ ℓ over the sequences; ``logits`` [N, 2], ``lengths`` [B], ``start`` and ``end`` [B]."""
    of_start = F.cross_entropy(apart(logits[:, 0], lengths), start, reduction="sum")
    of_end = F.cross_entropy(apart(logits[:, 1], lengths), end, reduction="sum")
    return (of_start + of_end) / 2
