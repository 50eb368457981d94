"""Exact factors: the first update, the end of the ramp, the last update."""

from __future__ import annotations

import math

import pytest

from bertft.training.step import Schedule, lr_lambda


def factors(total, warmup, kind):
    return [lr_lambda(step, total, warmup, kind) for step in range(1, total + 1)]


def test_linear():
    decay = [done / 8 for done in range(8, 0, -1)]
    assert factors(10, 0.2, "linear") == [0.5, 1.0, *decay]
    assert factors(4, 0.0, "linear") == [1, 0.75, 0.5, 0.25]


def test_cosine():
    expected = [0.25, 0.5, 0.75, 1]
    expected += [0.5 * (1 + math.cos(math.pi * done / 4)) for done in range(4)]
    assert factors(8, 0.5, "cosine") == pytest.approx(expected, rel=1e-15)
    assert lr_lambda(5, 8, 0.5, "cosine") == 1.0
    assert lr_lambda(7, 8, 0.5, "cosine") == pytest.approx(0.5)


def test_constant():
    assert factors(5, 0.4, "constant") == [0.5, 1, 1, 1, 1]


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.06, 0.5, 0.99])
@pytest.mark.parametrize("total", [1, 2, 3, 100])
def test_every_update_has_a_rate_of_its_own(total, warmup, kind):
    actual = factors(total, warmup, kind)
    assert all(0 < factor <= 1 for factor in actual) and max(actual) == 1
    ramp = round(warmup * total)
    assert actual[:ramp] == sorted(actual[:ramp])
    assert actual[ramp:] == sorted(actual[ramp:], reverse=True)


def test_an_unknown_kind():
    with pytest.raises(ValueError, match="unknown schedule 'step'"):
        lr_lambda(5, 10, 0.1, "step")


@pytest.mark.parametrize("total", [1, 2, 7, 99, 100, 12345])
@pytest.mark.parametrize("evaluations", [1, 3, 8, 9])
def test_a_fraction_of_the_steps_is_the_step_of_that_evaluation(total, evaluations):
    schedule = Schedule(total, 0.1, "linear")
    exact = {max(1, -(-n * total // evaluations)) for n in range(1, evaluations + 1)}
    assert schedule.evaluation_steps(evaluations) == exact and max(exact) == total
    for n in range(1, evaluations):
        step = -(-n * total // evaluations)
        assert schedule.stop_step(n / evaluations) == (step if step < total else None)


def test_the_step_to_stop_at():
    schedule = Schedule(12, 0.0, "linear")
    assert [schedule.stop_step(at) for at in (None, 1.0, 11.0, 12.0, 13.0)] == [
        None, 1, 11, None, None,
    ]  # fmt: skip
    assert schedule.stop_step(1e-9) == 1
