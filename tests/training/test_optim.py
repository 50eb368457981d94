"""Groups, rates, and moments that come back bit for bit."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from bertft.config.trainer import TrainerConfig
from bertft.methods.component import ParamGroup
from bertft.training.optim import (
    build_optimizer,
    load_optimizer_state,
    optimizer_state,
)
from bertft.training.step import set_learning_rates


def parameters(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    shapes = {"a.weight": (3, 4), "a.bias": (3,), "b": (2, 2), "idle": (2,)}
    return {
        name: nn.Parameter(torch.randn(shape, generator=generator).to(dtype))
        for name, shape in shapes.items()
    }


def made(named, **changes):
    pairs = list(named.items())
    return build_optimizer(
        [
            ParamGroup("low_rank", tuple(pairs[:1]), 0.1, True),
            ParamGroup("low_rank/no_decay", tuple(pairs[1:2]), 0.1, False),
            ParamGroup("head", tuple(pairs[2:]), 0.5, True),
        ],
        TrainerConfig(**changes),
    )


def step(optimizer, named, seed):
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in named.items():
        if name != "idle":
            parameter.grad = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
    optimizer.step()
    optimizer.zero_grad()


def test_groups():
    named = parameters()
    optimizer = made(named, weight_decay=0.3, beta1=0.8, beta2=0.99, epsilon=1e-6)
    actual = [
        (group["name"], group["lr"], group["weight_decay"], group["param_names"])
        for group in optimizer.param_groups
    ]
    assert actual == [
        ("low_rank", 0.1, 0.3, ["a.weight"]),
        ("low_rank/no_decay", 0.1, 0.0, ["a.bias"]),
        ("head", 0.5, 0.3, ["b", "idle"]),
    ]
    assert all(group["betas"] == (0.8, 0.99) for group in optimizer.param_groups)
    assert all(group["eps"] == 1e-6 and group["fused"] for group in optimizer.param_groups)


def test_rates_are_shares_of_the_peak():
    optimizer = made(parameters())
    assert set_learning_rates(optimizer, 0.5) == {"low_rank": 0.05, "head": 0.25}
    assert set_learning_rates(optimizer, 0.25) == {"low_rank": 0.025, "head": 0.125}, "of the peak"
    assert [group["lr"] for group in optimizer.param_groups] == [0.025, 0.025, 0.125]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_moments_come_back_bit_for_bit(dtype):
    named = parameters(dtype)
    optimizer = made(named)
    for seed in range(3):
        step(optimizer, named, seed)
    saved = load(
        save({name: tensor.contiguous() for name, tensor in optimizer_state(optimizer).items()})
    )
    assert set(saved) == {
        f"{key}/{name}" for key in ("step", "exp_avg", "exp_avg_sq") for name in named
        if name != "idle"
    }  # fmt: skip
    twins = {name: nn.Parameter(parameter.detach().clone()) for name, parameter in named.items()}
    other = made(twins)
    load_optimizer_state(other, saved)
    assert {key: tensor.dtype for key, tensor in optimizer_state(other).items()} == {
        key: tensor.dtype for key, tensor in optimizer_state(optimizer).items()
    }
    assert all(torch.equal(tensor, saved[key]) for key, tensor in optimizer_state(other).items())
    for seed in range(3, 6):
        step(optimizer, named, seed)
        step(other, twins, seed)
    for name in named:
        assert torch.equal(named[name], twins[name])
    assert float(optimizer_state(other)["step/b"]) == 6
    assert float(saved["step/b"]) == 3, "what was loaded is a copy"


def test_moments_of_another_model_are_refused():
    named = parameters()
    optimizer = made(named)
    step(optimizer, named, 0)
    saved = optimizer_state(optimizer)
    with pytest.raises(KeyError, match=r"unknown parameters.*exp_avg/c"):
        load_optimizer_state(made(parameters()), {**saved, "exp_avg/c": torch.zeros(2)})
    del saved["exp_avg_sq/a.bias"]
    with pytest.raises(KeyError, match=r"of a\.bias has only \['exp_avg', 'step'\]"):
        load_optimizer_state(made(parameters()), saved)
