"""The quicker draws: shares, independence, means, gradients, and whose place they take."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bertft.models.dropout import (
    Dropout,
    _MaskedDropoutLinear,
    draw_keep_mask,
    dropout,
    dropout_linear,
    replace_dropout,
)


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5])
def test_dropout_keeps_the_right_share_at_random_places(p):
    torch.manual_seed(0)
    mask = draw_keep_mask((1001, 999), p, torch.float32)
    assert mask.unique().tolist() == [0, 1]
    mask = mask.float()
    count = mask.numel()
    assert abs(mask.mean().item() - (1 - p)) < 4 * (p * (1 - p) / count) ** 0.5
    off = mask - mask.mean()
    variance = (off * off).mean()
    for shift in (1, 2, 3, 4, 8, 999):  # four share one draw: they must not share their fate
        flat = off.flatten()
        assert abs((flat[shift:] * flat[:-shift]).mean() / variance) < 5 / count**0.5
    assert not torch.equal(mask, draw_keep_mask((1001, 999), p, torch.float32).float())
    torch.manual_seed(0)
    assert torch.equal(mask, draw_keep_mask((1001, 999), p, torch.float32).float()), (
        "a seed repeats it"
    )


def test_dropout_keeps_the_mean():
    torch.manual_seed(0)
    assert dropout(torch.ones(500, 500), 0.1).mean().item() == pytest.approx(1, abs=3e-3)


@pytest.mark.parametrize("p", [1 - 2**-16, 0.999999, 1 - 2**-50])
def test_a_rate_next_to_1_keeps_a_share_that_can_be_drawn(p):
    torch.manual_seed(0)
    remaining = draw_keep_mask((4000, 1000), p, torch.float32)
    assert 20 < remaining.sum() < 120, "61 are expected of 4 million"
    x = dropout(torch.ones(4000, 1000), p)
    assert x.isfinite().all() and x.unique().tolist() == [0.0, 2.0**16]


@pytest.mark.parametrize("p", [0.1, 0.5])
@pytest.mark.parametrize("trains", ["x", "weight", "x and weight"])
def test_a_product_of_what_stays(p, trains):
    """The values and gradients of F.linear(dropout(x), weight), in fp64."""
    torch.manual_seed(1)
    x, weight = torch.randn(7, 6, dtype=torch.float64), torch.randn(3, 6, dtype=torch.float64)
    x.requires_grad_("x" in trains.split())
    weight.requires_grad_("weight" in trains)
    grad, results = torch.randn(7, 3, dtype=torch.float64), []
    learnt = [tensor for tensor in (x, weight) if tensor.requires_grad]
    for product in (
        lambda: torch.nn.functional.linear(dropout(x, p), weight),
        lambda: (lambda h, factor: h * factor)(*dropout_linear(x, weight, p)),
    ):
        torch.manual_seed(2)
        y = product()
        results.append([y.detach(), *torch.autograd.grad(y, learnt, grad)])
    for plain, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-13)
    assert results[0][0].abs().max() > 0
    context = dropout_linear(x, weight, p)[0].grad_fn  # and nothing is computed for the other
    grads = _MaskedDropoutLinear.backward(context, grad)
    assert [gradient is not None for gradient in grads[:2]] == [
        x.requires_grad,
        weight.requires_grad,
    ]


def waiting(function):
    """Bytes that wait for the backward pass of ``function``, its result left out."""
    actual = {}

    def count(tensor):
        actual[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        result = function()
    assert result is not None
    return sum(actual.values())


def test_a_byte_an_element_waits():
    x, weight = torch.randn(64, 32, requires_grad=True), torch.randn(4, 32, requires_grad=True)
    assert waiting(lambda: dropout(x, 0.1)) == 64 * 32
    two = waiting(lambda: [dropout_linear(x, weight, 0.1) for _ in range(2)])
    assert two == x.nbytes + weight.nbytes + 2 * 64 * 32, "layers that share x keep it once"


@pytest.mark.parametrize("p", [0.1, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_what_stays_is_scaled_and_so_is_its_gradient(p, dtype):
    torch.manual_seed(0)
    x = torch.ones(50, 50, dtype=dtype, requires_grad=True)
    y = dropout(x, p)
    assert y.dtype == dtype and len(y.unique()) == 2 and y.min() == 0
    assert y.max().item() == pytest.approx(
        1 / (1 - p), rel=4e-3 if dtype == torch.bfloat16 else 1e-4
    )
    y.sum().backward()
    assert x.grad is not None and torch.equal(x.grad, y.detach())


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_nothing_and_everything(p):
    assert torch.equal(dropout(torch.ones(9), p), torch.full((9,), 1 - p))


def test_it_takes_the_place_of_plain_dropout_alone():
    class CustomDropout(nn.Dropout):
        pass

    model = nn.Sequential(
        nn.Linear(2, 2), nn.Sequential(nn.Dropout(0.3)), CustomDropout(0.1), nn.Dropout(0)
    )
    model.eval()
    replace_dropout(model)
    inner, custom, none = model[1][0], model[2], model[3]
    assert type(inner) is Dropout and inner.p == 0.3 and not inner.training
    assert type(custom) is CustomDropout and type(none) is Dropout
    x = torch.randn(4, 2)
    assert torch.equal(model[1](x), x)
    model.train()
    torch.manual_seed(0)
    assert (model[1](torch.ones(1000)) == 0).float().mean().item() == pytest.approx(0.3, abs=0.05)
