"""The paired bootstrap against scipy's, and on cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bertft.report.compare.bootstrap import bootstrap_metrics, paired_difference, resample_weights

RNG = np.random.default_rng(0)
ONE = (RNG.random(400) < 0.80).astype(float)
OTHER = np.where(RNG.random(400) < 0.9, ONE, (RNG.random(400) < 0.6).astype(float))


def mean_of(scores):
    return lambda weights: weights @ scores / weights.sum(1)


def test_every_draw_takes_as_many_rows_as_there_are():
    weights = np.concatenate(list(resample_weights(30, 500)))
    assert weights.shape == (500, 30)
    assert (weights.sum(1) == 30).all() and (weights >= 0).all()
    assert weights.mean() == 1.0
    assert weights.var() == pytest.approx(1 - 1 / 30, abs=0.05)  # of a multinomial


def test_chunks_do_not_change_the_draws(monkeypatch):
    whole = np.concatenate(list(resample_weights(7, 50, seed=3)))
    monkeypatch.setattr("bertft.report.compare.bootstrap._MAX_CHUNK_WEIGHTS", 21)
    pieces = list(resample_weights(7, 50, seed=3))
    assert [len(piece) for piece in pieces] == [3] * 16 + [2]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_the_interval_equals_that_of_scipy():
    one, other = bootstrap_metrics([mean_of(ONE), mean_of(OTHER)], 400, 20_000)
    difference = paired_difference(one[None], other[None])
    expected = stats.bootstrap(
        (ONE, OTHER), lambda a, b, axis: a.mean(axis) - b.mean(axis), paired=True,
        vectorized=True, method="percentile", n_resamples=20_000, rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    assert difference.value == pytest.approx(ONE.mean() - OTHER.mean(), abs=1e-12)
    assert (difference.low, difference.high) == pytest.approx(
        (expected.low, expected.high), abs=0.0026
    )
    assert difference.low < 0 < difference.high and 0.05 < difference.p < 1


def test_pairing_narrows_the_interval():
    one, other = bootstrap_metrics([mean_of(ONE), mean_of(OTHER)], 400, 4_000)
    alone = bootstrap_metrics([mean_of(OTHER)], 400, 4_000, seed=9)
    paired, unpaired = (
        paired_difference(one[None], other[None]),
        paired_difference(one[None], alone),
    )
    assert paired.high - paired.low < 0.8 * (unpaired.high - unpaired.low)


def test_a_clear_difference_is_significant():
    worse = np.where(np.arange(400) % 8 == 0, 0.0, ONE)
    one, other = bootstrap_metrics([mean_of(ONE), mean_of(worse)], 400, 2_000)
    difference = paired_difference(one[None], other[None])
    assert 0 < difference.low < difference.value < difference.high
    assert difference.p == pytest.approx(2 / 2_001)


def test_equal_runs_do_not_differ():
    values = bootstrap_metrics([mean_of(ONE)], 400, 200)
    difference = paired_difference(values, values)
    assert (difference.value, difference.low, difference.high, difference.p) == (0.0, 0.0, 0.0, 1.0)


def test_seeds_are_averaged():
    difference = paired_difference(np.array([[0.5, 0.5], [0.7, 0.9]]), np.array([[0.4, 0.2]]))
    assert difference.value == pytest.approx(0.2) and difference.low == pytest.approx(0.5)


def test_draws_without_a_value_are_ignored():
    nan = float("nan")
    difference = paired_difference(np.array([[0.5, nan, 0.7]]), np.array([[0.25, 0.1, 0.2]]))
    assert (difference.low, difference.high) == pytest.approx((0.5, 0.5))
    assert np.isnan(paired_difference(np.array([[0.5, nan]]), np.array([[0.2, nan]])).p)
