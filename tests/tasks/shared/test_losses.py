"""Shaped losses against torch, the papers' equations written out, and finite differences."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from bertft.tasks.shared.losses import LossOptions, binary_cross_entropy_loss, cross_entropy_loss

ROWS, CLASSES = 7, 4


@pytest.fixture
def weights():
    return torch.tensor([0.5, 2.0, 0.0, 1.25], dtype=torch.float64)


@pytest.fixture
def logits():
    torch.manual_seed(3)
    return 3 * torch.randn(ROWS, CLASSES, dtype=torch.float64)


@pytest.fixture
def labels():
    return torch.tensor([0, 1, 2, 3, 3, 1, 0])


@pytest.fixture
def truth():
    torch.manual_seed(4)
    return (torch.rand(ROWS, CLASSES) < 0.4).float()


def categorical_by_hand(logits, labels, w, smoothing, gamma):
    total = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        powers = [math.exp(z) for z in row]
        for c, power in enumerate(powers):
            p = power / sum(powers)
            q = (1 - smoothing) * (c == label) + smoothing / len(row)
            total -= w[c] * q * (1 - p) ** gamma * math.log(p)
    return total


def bernoulli_by_hand(logits, truth, w, smoothing, gamma):
    total = 0.0
    for row, given in zip(logits.tolist(), truth.tolist(), strict=True):
        for c, (z, y) in enumerate(zip(row, given, strict=True)):
            p = 1 / (1 + math.exp(-z))
            q = (1 - smoothing) * y + smoothing / 2
            total -= w[c] * q * (1 - p) ** gamma * math.log(p)
            total -= (1 - q) * p**gamma * math.log(1 - p)
    return total


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_they_are_the_equations(logits, labels, truth, weights, weighted, smoothing, gamma):
    shape = LossOptions(weights if weighted else None, smoothing, gamma)
    w = weights.tolist() if weighted else [1.0] * CLASSES
    expected = categorical_by_hand(logits, labels, w, smoothing, gamma)
    assert float(cross_entropy_loss(logits, labels, shape)) == pytest.approx(expected, rel=1e-12)
    expected = bernoulli_by_hand(logits, truth, w, smoothing, gamma)
    assert float(binary_cross_entropy_loss(logits, truth, shape)) == pytest.approx(
        expected, rel=1e-12
    )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_their_gradients(logits, labels, truth, weights, weighted, smoothing, gamma):
    shape = LossOptions(weights if weighted else None, smoothing, gamma)
    for loss, given in ((cross_entropy_loss, labels), (binary_cross_entropy_loss, truth)):
        assert torch.autograd.gradcheck(
            lambda z, loss=loss, given=given: loss(z, given, shape), logits.requires_grad_()
        )


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_without_gamma_they_are_torchs(logits, labels, truth, weights, smoothing):
    shape = LossOptions(weights, smoothing)
    mean = F.cross_entropy(logits, labels, weights, label_smoothing=smoothing)
    # torch's mean divides by the weights of the labels; the sum does not, and nor do we
    torch.testing.assert_close(
        cross_entropy_loss(logits, labels, shape), mean * weights[labels].sum(), rtol=1e-12, atol=0
    )
    smooth = (1 - smoothing) * truth.double() + smoothing / 2
    torch.testing.assert_close(
        binary_cross_entropy_loss(logits, truth, shape),
        F.binary_cross_entropy_with_logits(logits, smooth, pos_weight=weights, reduction="sum"),
    )


def test_the_default_options_equal_torch_bit_by_bit(logits, labels, truth):
    z = logits.float()
    assert torch.equal(
        cross_entropy_loss(z, labels, LossOptions()), F.cross_entropy(z, labels, reduction="sum")
    )
    plain = F.binary_cross_entropy_with_logits(z, truth, reduction="sum")
    assert torch.equal(binary_cross_entropy_loss(z, truth, LossOptions()), plain)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("gamma", [0.1, 0.5, 1.0, 5.0])
@pytest.mark.parametrize("size", [1e2, 1e4])
def test_losses_are_finite_if_a_probability_rounds_to_1_or_0(weighted, smoothing, gamma, size):
    w = torch.tensor([2.0, 0.5], dtype=torch.float64) if weighted else None
    shape = LossOptions(w, smoothing, gamma)
    z = torch.tensor([[size, -size], [size, -size]], requires_grad=True)
    for loss, given in (
        (cross_entropy_loss, torch.tensor([0, 1])),
        (binary_cross_entropy_loss, torch.tensor([[1.0, 0.0], [0.0, 1.0]])),
    ):
        (slope,) = torch.autograd.grad(loss(z, given, shape), z)
        assert torch.isfinite(loss(z, given, shape)) and torch.isfinite(slope).all()
        if smoothing == 0:
            assert slope[0].abs().max() == 0 and slope[1].abs().min() > 0


def test_half_precision_is_summed_in_single(logits, labels, truth, weights):
    shape, half = LossOptions(weights, 0.1, 2.0), logits.bfloat16()
    for loss, given in ((cross_entropy_loss, labels), (binary_cross_entropy_loss, truth)):
        actual = loss(half, given, shape)
        assert actual.dtype == torch.float32
        torch.testing.assert_close(actual, loss(half.float(), given, shape))
