"""The two halves of the validation rows."""

from __future__ import annotations

import numpy as np

from bertft.data.halves import first_half


def test_the_halves_are_disjoint_seeded_and_of_equal_size():
    is_first = first_half(11, seed=3)
    assert is_first.sum() == 5 and len(is_first) == 11
    assert np.array_equal(is_first, first_half(11, seed=3))
    assert not np.array_equal(is_first, first_half(11, seed=4))
    assert first_half(10, seed=0).sum() == 5


def test_every_row_can_be_in_either_half():
    shares = np.mean([first_half(8, seed) for seed in range(400)], 0)
    assert np.all(np.abs(shares - 0.5) < 0.1)
