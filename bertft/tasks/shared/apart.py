"""Tokens end to end, each sequence in a row of its own."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from bertft.data.batch import sent

__all__ = ["apart"]


def apart(values: Tensor, lengths: Tensor) -> Tensor:
    """[N, ...] end to end → [B, longest, ...], −∞ where a sequence has no token.

    ``lengths`` lies on the CPU: where the tokens go is planned there, without waiting for
    ``values``.
    """
    longest = int(lengths.max())
    places = np.arange(longest) < lengths.numpy()[:, None]
    empty = values.new_full((places.size, *values.shape[1:]), float("-inf"))
    filled = empty.index_copy(0, sent(np.flatnonzero(places), values.device), values)
    return filled.unflatten(0, places.shape)
