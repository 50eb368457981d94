"""Which tokens are hidden, and behind what (Devlin et al. 2019, arXiv 1810.04805, §3.1).

    k = max(1, round(share · n)) of a feature's n tokens are to be guessed, drawn without return;
    each of them becomes the mask with probability 0.8, any token with 0.1, and stays with 0.1.

Whole words: words are drawn until k tokens are reached, and hidden with all of their tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["MaskingVocabulary", "choose_positions", "mask_tokens"]


@dataclass(frozen=True)
class MaskingVocabulary:
    """The mask's id, those of ``special`` tokens, and of all ``ordinary`` ones."""

    mask: int
    special: np.ndarray
    ordinary: np.ndarray


def choose_positions(
    ids: np.ndarray,
    words: np.ndarray,
    vocabulary: MaskingVocabulary,
    mlm_probability: float,
    whole_words: bool,
    generator: np.random.Generator,
) -> np.ndarray:
    """Places to be guessed, ascending, of a feature's ``ids`` and ``words`` [n]; −1 is no word."""
    candidates = np.flatnonzero((words >= 0) & ~np.isin(ids, vocabulary.special))
    if len(candidates) == 0:
        return candidates
    count = max(1, round(mlm_probability * len(candidates)))
    if not whole_words:
        return np.sort(generator.permutation(candidates)[:count])
    distinct_words, word_numbers = np.unique(words[candidates], return_inverse=True)
    order = generator.permutation(len(distinct_words))
    sizes = np.bincount(word_numbers)[order]
    chosen_words = order[: int(np.searchsorted(np.cumsum(sizes), count)) + 1]
    return candidates[np.isin(word_numbers, chosen_words)]


def mask_tokens(
    ids: np.ndarray, positions: np.ndarray, vocabulary: MaskingVocabulary, generator: np.random.Generator
) -> None:
    """Change ``ids`` at ``positions``, in place."""
    chance = generator.random(len(positions))
    ids[positions[chance < 0.8]] = vocabulary.mask
    replaced = positions[(chance >= 0.8) & (chance < 0.9)]
    ids[replaced] = generator.choice(vocabulary.ordinary, len(replaced))
