"""A sentence too long for the model, cut into windows of whole words that overlap.

    room ≥ Σ sizes of a window's words;  the next one begins ≤ overlap tokens before its end

Each word is answered in one window: where the fewer of the tokens before and after it are most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["WordWindow", "split_into_windows"]


@dataclass(frozen=True)
class WordWindow:
    """Words [first, stop) of a sentence, of which [own, own_stop) are answered here."""

    first: int
    stop: int
    answer_start: int
    answer_stop: int


def split_into_windows(sizes: Sequence[int], room: int, overlap: int) -> list[WordWindow]:
    """``sizes`` [words] in tokens, each at most ``room``; together the windows own every word."""
    bounds = _window_bounds(sizes, room, overlap)
    if len(bounds) == 1:
        return [WordWindow(0, len(sizes), 0, len(sizes))]
    ends = np.concatenate([[0], np.cumsum(sizes)])
    context_tokens = np.full((len(bounds), len(sizes)), -1)
    for number, (first, stop) in enumerate(bounds):
        words = np.arange(first, stop)
        before, after = ends[words] - ends[first], ends[stop] - ends[words + 1]
        context_tokens[number, words] = np.minimum(before, after)
    window_of_word = context_tokens.argmax(0)  # the first of equals; it never falls from one word to the next
    window_of_word = np.maximum.accumulate(window_of_word)
    return [
        WordWindow(first, stop, *np.searchsorted(window_of_word, [number, number + 1]).tolist())
        for number, (first, stop) in enumerate(bounds)
    ]


def _window_bounds(sizes: Sequence[int], room: int, overlap: int) -> list[tuple[int, int]]:
    bounds: list[tuple[int, int]] = []
    first = 0
    while True:
        stop, tokens_used = first, 0
        while stop < len(sizes) and tokens_used + sizes[stop] <= room:
            tokens_used += sizes[stop]
            stop += 1
        bounds.append((first, stop))
        if stop == len(sizes):
            return bounds
        next_first, tokens_used = stop, 0
        # The next window must hold a word that this one has not.
        while next_first - 1 > first and tokens_used + sizes[next_first - 1] <= min(overlap, room - sizes[stop]):
            next_first -= 1
            tokens_used += sizes[next_first]
        first = next_first
