"""Tokens end to end, each sequence in a row of its own."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from bertft.data.batch import to_device

__all__ = ["pad_sequences"]


def pad_sequences(values: Tensor, lengths: Tensor) -> Tensor:
    """[N, ...] end to end → [B, longest, ...], −∞ where a sequence has no token.

    ``lengths`` lies on the CPU: where the tokens go is planned there, without waiting for
    ``values``.
    """
    longest = int(lengths.max())
    is_token = np.arange(longest) < lengths.numpy()[:, None]
    empty = values.new_full((is_token.size, *values.shape[1:]), float("-inf"))
    filled = empty.index_copy(0, to_device(np.flatnonzero(is_token), values.device), values)
    return filled.unflatten(0, is_token.shape)
