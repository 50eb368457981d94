"""What the report shows of guesses at hidden tokens: the hardest features, the costliest tokens.

    perplexity of a feature = exp(mean loss at its hidden places)

A token's total loss says what the encoder has still to learn of a domain: rare words that are
never guessed and frequent ones that are often missed weigh alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from bertft.runs.exhibits import Cell, Exhibit, Share, Table, clipped
from bertft.tasks.shared.exhibits import SHOWN, rows_to_look_at, text_of, where

__all__ = ["exhibits"]


def exhibits(
    outputs: np.ndarray,
    places: Sequence[np.ndarray],
    features: Any,
    spell: Callable[[Sequence[int]], str],
) -> Iterator[Exhibit]:
    """``outputs`` [K, 3]: loss, hit, guess; ``places``: of each feature those hidden, K in all."""
    every = np.arange(len(features))
    sizes = features.sizes("input_ids", every)
    starts = np.cumsum(sizes) - sizes
    ids, numbers = features.gather("input_ids", every), features.gather("row", every)
    hidden = [ids[start + own] for start, own in zip(starts, places, strict=True)]
    counts = np.asarray([len(own) for own in places])
    loss, hits = outputs[:, :2].astype(np.float64).T
    owner = np.repeat(every, counts)
    total = np.bincount(owner, loss, len(every))
    right = np.bincount(owner, hits, len(every))

    def line(place: int) -> list[Cell]:
        row = int(numbers[place])
        words = " ".join(spell([token]).strip() for token in hidden[place].tolist())
        return [
            where(features.rows, row), text_of(features.rows, row), clipped(words, 120),
            int(right[place]), float(np.exp(total[place] / counts[place])),
        ]  # fmt: skip

    mean = np.where(counts > 0, total / np.maximum(counts, 1), -np.inf)
    yield from rows_to_look_at(
        ("row", "text", "hidden", "guessed", "perplexity"),
        line,
        (mean, "The hidden tokens, of which so many were guessed."),
        None,
    )
    yield _tokens(np.concatenate(hidden), loss, hits, spell)


def _tokens(
    tokens: np.ndarray, loss: np.ndarray, hits: np.ndarray, spell: Callable[[Sequence[int]], str]
) -> Table:
    kinds, of = np.unique(tokens, return_inverse=True)
    times, total = np.bincount(of), np.bincount(of, loss)
    order = np.argsort(-total, kind="stable")[:SHOWN]
    shares = np.bincount(of, hits) / times
    return Table(
        "tokens", "Costliest tokens", "Those with the greatest share of the whole loss.",
        head=("token", "hidden", "guessed", "mean loss", "of the loss"),
        rows=[
            [
                clipped(spell([int(kinds[each])]).strip(), 40), int(times[each]),
                Share(shares[each]), float(total[each] / times[each]),
                Share(total[each] / max(total.sum(), 1e-300)),
            ]
            for each in order
        ],
    )  # fmt: skip
