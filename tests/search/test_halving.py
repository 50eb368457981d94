"""Which trials are trained up to which rung."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from bertft.search.halving import (
    RungResult,
    Trial,
    format_fraction,
    promoted,
    rank,
    rung_fractions,
    wave_ends,
)


@pytest.mark.parametrize(
    ("evaluations", "expected"),
    [
        (8, [1 / 8, 1 / 4, 1 / 2, 1]),
        (10, [1 / 10, 2 / 10, 5 / 10, 1]),
        (3, [1 / 3, 1]),
        (1, [1]),
    ],
)
def test_the_rungs_are_evaluations(evaluations, expected):
    assert rung_fractions(evaluations) == expected


@pytest.mark.parametrize("trials", [2, 3, 5, 16, 100])
def test_the_waves_cover_all_trials_and_the_first_is_at_most_half(trials):
    ends = wave_ends(trials)
    assert ends == sorted(set(ends)) and ends[-1] == trials
    assert ends[0] == min(10, math.ceil(trials / 2))


def trials(*values, **losses):
    return [
        Trial(number, {}, [RungResult(value, losses.get(f"n{number}")) for value in results])
        for number, results in enumerate(values)
    ]


def test_the_better_half_is_promoted_at_each_rung():
    made = trials((0.5,), (0.9, 0.6), (0.7, 0.8, 0.9), (0.8, 0.7), (0.1,))
    assert [trial.number for trial in promoted(made, 0, False)] == [0, 1, 2, 3, 4]
    assert [trial.number for trial in promoted(made, 1, False)] == [1, 3]
    assert [trial.number for trial in promoted(made, 2, False)] == [3]
    assert [trial.number for trial in promoted(made, 1, True)] == [4, 0]


def test_a_trial_that_ran_further_takes_no_place_that_it_did_not_earn():
    """The default is trained to the end before any other."""
    made = trials((0.1, 0.9, 0.9), (0.5, 0.4), (0.6, 0.5), (0.4,))
    assert [trial.number for trial in promoted(made, 2, False)] == [2]


def test_equal_values_are_ranked_by_loss_and_number():
    made = trials((0.5,), (0.5,), (0.5,), (0.6,), n0=0.7, n1=0.3)
    assert [trial.number for trial in rank(made, 0, False)] == [3, 1, 0, 2]


def test_a_model_that_knows_nothing_is_ranked_by_its_loss_after_the_others():
    """Its metric is chance; a complete run counts as informed (``read_results``)."""
    made = trials((0.02,), (0.04,), (0.05,), (0.0,), n0=0.3, n1=0.9, n2=1.9, n3=0.2)
    for number in (1, 2):
        made[number].results[0] = replace(made[number].results[0], is_informed=False)
    assert [trial.number for trial in rank(made, 0, False)] == [0, 3, 1, 2]
    assert [trial.number for trial in rank(made, 0, True)] == [3, 0, 1, 2]
    made[2].results[0] = replace(made[2].results[0], value=0.0, loss=0.8)
    assert [trial.number for trial in rank(made, 0, False)] == [0, 3, 2, 1]


def test_a_failed_trial_is_not_ranked():
    made = trials((0.5,), (), (0.7,))
    assert [trial.number for trial in promoted(made, 1, False)] == [2]


def test_fractions_are_shown_as_such():
    assert [format_fraction(f) for f in (1 / 8, 2 / 10, 5 / 9, 1)] == ["1/8", "1/5", "5/9", "all"]
