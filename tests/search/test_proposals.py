"""Proposals depend on the seed and on the results before them, and are never made twice."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from bertft.config.search_space import Distribution
from bertft.search.halving import RungResult, Trial
from bertft.search.proposals import propose, ranked_trials, total_trials

pytest.importorskip("optuna")

RATE = Distribution("tag(log,interval(1e-4,1e-1))", low=1e-4, high=1e-1, is_log=True)
RANK = Distribution("range(2,9,2)", low=2, high=8, is_integer=True, step=2)
KIND = Distribution("choice(a,b)", ("a", "b"))


def search(space, total, value, seed=0, lower=False):
    """The configurations of a search in which each trial is finished before the next proposal."""
    trials = []
    for number in range(total):
        params = propose(space, trials, total, seed, lower)
        trials.append(Trial(number, params, [RungResult(value(params), None)]))
    return [trial.params for trial in trials]


def distance(params):
    """Best at 1e-3."""
    return -abs(math.log10(float(params["rate"])) + 3)


def test_the_same_seed_proposes_the_same_and_another_one_others():
    space = {"rate": RATE, "rank": RANK, "kind": KIND}
    first, again, other = (search(space, 6, distance, seed) for seed in (0, 0, 1))
    assert first == again != other
    assert all(1e-4 <= float(p["rate"]) <= 1e-1 for p in first)
    assert all(p["rank"] in "2468" and p["kind"] in "ab" for p in first)
    assert all(len(p["rate"].split("e")[0].replace(".", "").strip("0")) <= 4 for p in first)


@pytest.mark.parametrize("lower", [False, True])
def test_later_proposals_are_nearer_to_the_best(lower):
    sign = -1 if lower else 1
    values = [
        distance(p) for p in search({"rate": RATE}, 40, lambda p: sign * distance(p), 3, lower)
    ]
    assert sum(values[30:]) / 10 > sum(values[:10]) / 10 + 0.3


def test_proposals_of_one_wave_differ_and_do_not_need_each_other_s_results():
    done = [
        Trial(n, {"rate": f"{rate}"}, [RungResult(0.5, None)]) for n, rate in enumerate([0.01] * 9)
    ]
    wave = list(done)
    for number in range(9, 13):
        wave.append(Trial(number, propose({"rate": RATE}, wave, 13, 0, False)))
    assert len({trial.params["rate"] for trial in wave[9:]}) == 4
    failed = [*done, Trial(9, {"rate": "0.05"}, error="NaN")]
    assert propose({"rate": RATE}, failed, 13, 0, False)["rate"] != "0.05"


@pytest.mark.parametrize("total", [3, 8])
def test_a_grid_has_no_combination_twice(total):
    space = {"rank": RANK, "kind": KIND}
    params = [tuple(p.values()) for p in search(space, total, lambda p: float(p["rank"]))]
    assert len(set(params)) == total


def test_a_grid_is_not_larger_than_it_is():
    assert total_trials({"rank": RANK, "kind": KIND}, 16) == 8
    assert total_trials({"rank": RANK, "kind": KIND}, None) == 8
    assert total_trials({"rank": RANK, "kind": KIND}, 5) == 5
    assert total_trials({"rate": RATE}, 16) == 16 and total_trials({"rate": RATE}, None) is None


def test_the_order_of_the_settings_does_not_matter():
    """A killed search may be repeated with its settings in another order."""
    space = {"rate": RATE, "rank": RANK, "kind": KIND}
    turned = dict(reversed(space.items()))
    first = search(space, 6, distance)
    assert search(turned, 6, distance) == first
    grid = {"rank": RANK, "kind": KIND}
    done = search(grid, 4, lambda p: float(p["rank"]))
    earlier = [Trial(n, dict(reversed(p.items()))) for n, p in enumerate(done)]
    assert propose(grid, earlier, 8, 0, False) not in done


def test_a_large_grid_has_no_combination_twice_either():
    """Two jobs of a launcher would train in one folder."""
    space = {"a": replace(RANK, high=10_000), "b": Distribution("choice(x,y)", ("x", "y"))}
    first = propose(space, [], 2, 0, False)
    tried, other = Trial(0, first), Trial(0, {"a": "2", "b": "x"})
    sampled = propose(space, [other], 2, 0, False)
    again = propose(space, [replace(tried, params=sampled)], 2, 0, False)
    assert again != sampled


def test_trials_are_ranked_as_they_are_promoted():
    """Places, equal ones for equal results; also of a trial that failed at a later rung."""
    results = [
        RungResult(0.7, 0.5), RungResult(0.9, 0.5), RungResult(0.95, 2.0, is_informed=False),
        RungResult(0.7, 0.5),
    ]  # fmt: skip
    trials = [Trial(n, {"rate": "0.01"}, [result]) for n, result in enumerate(results)]
    trials.append(Trial(4, {"rate": "0.01"}, error="NaN"))
    trials[1].error = "NaN at the second rung"
    for lower, expected in ((False, [1, 0, 2, 1]), (True, [0, 1, 2, 0])):
        ranked = ranked_trials({"rate": RATE}, trials, lower)
        assert [trial.value for trial in ranked] == expected
