"""Averages of weights and their factors against numpy in fp64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bertft.errors import BertftError
from bertft.soups.average import WeightMean, low_rank_factors, relative_error


def make_states(count=3):
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "weight": torch.randn(5, 4, generator=generator),
            "bias": torch.randn(5, generator=generator) * 1e6,
            "positions": torch.arange(6),
        }
        for _ in range(count)
    ]


def mean_of(states):
    total = WeightMean()
    for state in states:
        total.add(state)
    return total.mean()


def test_the_mean_is_that_of_fp64_rounded_once():
    states = make_states()
    mean = mean_of(states)
    for name in ("weight", "bias"):
        reference = np.mean([state[name].double().numpy() for state in states], 0)
        assert mean[name].dtype == torch.float32
        assert np.array_equal(mean[name].numpy(), reference.astype(np.float32))
    assert mean["positions"].equal(states[0]["positions"])


def test_the_mean_of_equal_states_is_the_state():
    [state] = make_states(1)
    for count in (2, 3, 7):
        mean = mean_of([state] * count)
        assert all(mean[name].equal(tensor) for name, tensor in state.items())


def test_a_mean_with_one_more_state_adds_nothing():
    states = make_states()
    total = WeightMean()
    total.add(states[0])
    total.add(states[1])
    tried = total.mean_with(states[2])
    assert total.count == 2 and total.mean()["weight"].equal(mean_of(states[:2])["weight"])
    assert tried["weight"].equal(mean_of(states)["weight"])


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("bias"),
        lambda state: state.update(weight=torch.zeros(4, 4)),
        lambda state: state.update(positions=torch.arange(6) + 1),
    ],
)
def test_states_that_do_not_fit_are_an_error(change):
    first, second = make_states(2)
    change(second)
    total = WeightMean()
    total.add(first)
    with pytest.raises(BertftError, match="different tensors"):
        total.add(second)


def test_factors_of_a_lower_rank_are_the_truncated_svd():
    update = torch.randn(9, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    u, singular_values, vh = np.linalg.svd(update.numpy(), full_matrices=False)
    factors = low_rank_factors(update, 2)
    truncated = (u[:, :2] * singular_values[:2]) @ vh[:2]
    assert factors.down.shape == (2, 6) and factors.up.shape == (9, 2)
    np.testing.assert_allclose((factors.up @ factors.down).numpy(), truncated, atol=1e-12)
    difference = np.linalg.norm(update.numpy() - truncated) / np.linalg.norm(update.numpy())
    assert relative_error({"layer": factors}) == pytest.approx(difference, rel=1e-12)


def test_without_a_rank_the_factors_are_exact_and_as_small_as_possible():
    generator = torch.Generator().manual_seed(2)
    parts = [
        torch.randn(8, 1, generator=generator, dtype=torch.float64)
        @ torch.randn(1, 7, generator=generator, dtype=torch.float64)
        for _ in range(3)
    ]
    factors = low_rank_factors(sum(parts) / 3, None)
    assert len(factors.down) == 3
    assert relative_error({"layer": factors}) == 0
    torch.testing.assert_close(factors.up @ factors.down, sum(parts) / 3, rtol=1e-12, atol=1e-12)
    assert len(low_rank_factors(torch.zeros(3, 4), None).down) == 0
