"""The simulation of a search from the evaluations of a grid."""

from __future__ import annotations

from benchmarks.tune import _DEFAULT, Configuration, simulate
from bertft.search.halving import RungResult


def make_grid(default, slow=None):
    """16 configurations of 64 steps, best first; that at ``slow`` is the worst up to 1/4."""
    grid = []
    for number in range(16):
        values = [0.9 - 0.01 * number] * 4
        if number == slow:
            values[:2] = [0.1, 0.1]
        results = [RungResult(value, None) for value in values]
        params = _DEFAULT if number == default else {"method.rank": str(number)}
        grid.append(Configuration(params, str(number), values[-1], 64, [], results))
    return grid


def test_the_steps_of_a_search():
    # The default has all 64 steps. 15 trials have 8, then 8, 4 and 2 continue to 16, 32 and 64.
    worst_is_default = 64 + 15 * 8 + 8 * 8 + 4 * 16 + 2 * 32
    assert simulate(make_grid(default=15)) == (1, worst_is_default, [1, 1, 1, 1])
    best_is_default = 64 + 15 * 8 + 7 * 8 + 3 * 16 + 1 * 32
    assert simulate(make_grid(default=0)) == (1, best_is_default, [1, 1, 1, 1])


def test_a_best_that_starts_slowly_is_not_found():
    place, _, places = simulate(make_grid(default=15, slow=0))
    assert (place, places) == (2, [16])
