from __future__ import annotations

import pytest
import torch

from bertft.methods.low_rank.adalora import AdaLoRAPenalty, orthogonality_loss
from bertft.methods.low_rank.svd_lora import SVDLoRA


def test_the_mean_over_all_factors_of_mixed_shapes():
    torch.manual_seed(0)
    factors = [torch.randn(3, n, dtype=torch.float64, requires_grad=True) for n in (5, 7, 5, 4)]
    identity = torch.eye(3, dtype=torch.float64)
    expected = sum((f @ f.T - identity).norm() for f in factors) / 4
    actual = orthogonality_loss(factors)
    torch.testing.assert_close(actual, expected, rtol=1e-13, atol=0)
    for one, other in zip(
        torch.autograd.grad(actual, factors), torch.autograd.grad(expected, factors), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-13)


def test_exactly_orthonormal_factors_have_a_gradient():
    factor = torch.eye(2, 6, requires_grad=True)
    value = orthogonality_loss([factor, torch.full((2, 6), 0.5, requires_grad=True)])
    value.backward()
    assert torch.equal(factor.grad, torch.zeros(2, 6))


def updates(dtype: torch.dtype, start: str = "gaussian") -> list[SVDLoRA]:
    torch.manual_seed(0)
    made = [SVDLoRA(torch.zeros(5, 8, dtype=dtype), 3, 1.0, start) for _ in range(2)]
    with torch.no_grad():
        made[0].E.copy_(torch.tensor([1.0, -2.0, 0.0]))
        made[1].E.copy_(torch.tensor([0.5, 0.0, 0.25]))
    return made


def test_terms_and_weights():
    made = updates(torch.float64)
    factors = [factor for update in made for factor in (update.A, update.B.t())]
    plain = orthogonality_loss(factors).item()
    penalty = AdaLoRAPenalty(made, orthogonality=0.1, l1=0.01)
    value = penalty()
    assert value.item() == pytest.approx(0.1 * plain + 0.01 * 3.75, rel=1e-12)
    assert {name: term.item() for name, term in penalty.last_terms.items()} == pytest.approx(
        {"orthogonality": plain, "l1": 3.75}
    )
    assert not any(term.requires_grad for term in penalty.last_terms.values())
    value.backward()
    assert made[0].E.grad.tolist() == pytest.approx([0.01, -0.01, 0.0])


def test_nothing_to_weigh_is_no_loss():
    assert AdaLoRAPenalty(updates(torch.float32), 0.0, 0.0)() is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fp32_whatever_the_model_and_autocast(dtype):
    made = updates(dtype, "orthonormal")
    with torch.autocast("cpu", torch.bfloat16):
        value = AdaLoRAPenalty(made, orthogonality=1.0, l1=0.0)()
    assert value.dtype == torch.float32
    assert value.item() < 1e-5, "orthonormal at the start; bf16 would leave 1e-3"
