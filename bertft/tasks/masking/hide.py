"""Which tokens are hidden, and behind what (Devlin et al. 2019, arXiv 1810.04805, §3.1).

    k = max(1, round(share · n)) of a feature's n tokens are to be guessed, drawn without return;
    each of them becomes the mask with probability 0.8, any token with 0.1, and stays with 0.1.

Whole words: words are drawn until k tokens are reached, and hidden with all of their tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Vocabulary", "choose", "hide"]


@dataclass(frozen=True)
class Vocabulary:
    """The mask's id, those of ``special`` tokens, and of all ``ordinary`` ones."""

    mask: int
    special: np.ndarray
    ordinary: np.ndarray


def choose(
    ids: np.ndarray,
    words: np.ndarray,
    vocabulary: Vocabulary,
    share: float,
    whole: bool,
    generator: np.random.Generator,
) -> np.ndarray:
    """Places to be guessed, ascending, of a feature's ``ids`` and ``words`` [n]; −1 is no word."""
    candidates = np.flatnonzero((words >= 0) & ~np.isin(ids, vocabulary.special))
    if len(candidates) == 0:
        return candidates
    wanted = max(1, round(share * len(candidates)))
    if not whole:
        return np.sort(generator.permutation(candidates)[:wanted])
    kinds, of = np.unique(words[candidates], return_inverse=True)
    order = generator.permutation(len(kinds))
    sizes = np.bincount(of)[order]
    taken = order[: int(np.searchsorted(np.cumsum(sizes), wanted)) + 1]
    return candidates[np.isin(of, taken)]


def hide(
    ids: np.ndarray, places: np.ndarray, vocabulary: Vocabulary, generator: np.random.Generator
) -> None:
    """Change ``ids`` at ``places``, in place."""
    chance = generator.random(len(places))
    ids[places[chance < 0.8]] = vocabulary.mask
    swapped = places[(chance >= 0.8) & (chance < 0.9)]
    ids[swapped] = generator.choice(vocabulary.ordinary, len(swapped))
