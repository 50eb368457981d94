"""A sentence too long for the model, cut into windows of whole words that overlap.

    room ≥ Σ sizes of a window's words;  the next one begins ≤ overlap tokens before its end

Each word is answered in one window: where the fewer of the tokens before and after it are most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Window", "windows"]


@dataclass(frozen=True)
class Window:
    """Words [first, stop) of a sentence, of which [own, own_stop) are answered here."""

    first: int
    stop: int
    own: int
    own_stop: int


def windows(sizes: Sequence[int], room: int, overlap: int) -> list[Window]:
    """``sizes`` [words] in tokens, each at most ``room``; together the windows own every word."""
    bounds = _bounds(sizes, room, overlap)
    if len(bounds) == 1:
        return [Window(0, len(sizes), 0, len(sizes))]
    ends = np.concatenate([[0], np.cumsum(sizes)])
    context = np.full((len(bounds), len(sizes)), -1)
    for number, (first, stop) in enumerate(bounds):
        words = np.arange(first, stop)
        before, after = ends[words] - ends[first], ends[stop] - ends[words + 1]
        context[number, words] = np.minimum(before, after)
    owner = context.argmax(0)  # the first of equals; it never falls from one word to the next
    owner = np.maximum.accumulate(owner)
    return [
        Window(first, stop, *np.searchsorted(owner, [number, number + 1]).tolist())
        for number, (first, stop) in enumerate(bounds)
    ]


def _bounds(sizes: Sequence[int], room: int, overlap: int) -> list[tuple[int, int]]:
    bounds: list[tuple[int, int]] = []
    first = 0
    while True:
        stop, taken = first, 0
        while stop < len(sizes) and taken + sizes[stop] <= room:
            taken += sizes[stop]
            stop += 1
        bounds.append((first, stop))
        if stop == len(sizes):
            return bounds
        back, taken = stop, 0
        # The next window must hold a word that this one has not.
        while back - 1 > first and taken + sizes[back - 1] <= min(overlap, room - sizes[stop]):
            back -= 1
            taken += sizes[back]
        first = back
