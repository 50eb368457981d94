"""Attention in blocks against the plain products: values, gradients, dropout, and what waits."""

from __future__ import annotations

import pytest
import torch

from bertft.config.method_components.prefix import PrefixConfig
from bertft.methods.prefix import build
from bertft.models.attention import blockwise, sdpa
from bertft.models.attention.blockwise import blockwise_attention
from bertft.models.dropout import inverse_keep_prob
from bertft.models.forward_state import AttentionInputs
from bertft.models.runner import EncoderRunner

SCALE = 0.4


@pytest.fixture(params=[1, 150, 400, 1 << 18], ids=["a head", "two heads", "some rows", "whole"])
def block(request, monkeypatch):
    """Pairs of a block; the inputs below have 63 a head, four heads, five rows."""
    monkeypatch.setattr(blockwise, "_PAIRS_PER_BLOCK", request.param)


def inputs(dtype=torch.float64, n=5, heads=4, t=7, u=9, d=3):
    torch.manual_seed(0)

    def made(length):  # as a layer hands them over: a transpose of [n, length, heads, d]
        return torch.randn(n, length, heads, d, dtype=dtype).transpose(1, 2).requires_grad_()

    return made(t), made(u), made(u)


def plain(query, key, value, mask, keeps):
    scores = SCALE * query @ key.transpose(2, 3)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return torch.softmax(scores, -1) * keeps @ value


def seen(shape):
    torch.manual_seed(1)
    mask = torch.rand(shape) < 0.6
    mask[..., 4] = True
    return mask


def compare(ours, reference, tensors):
    torch.manual_seed(2)
    grad = torch.randn(ours.shape[0], ours.shape[2], ours.shape[1], ours.shape[3]).to(ours.dtype)
    grad = grad.transpose(1, 2)
    torch.testing.assert_close(ours, reference, rtol=1e-12, atol=1e-13)
    actual = torch.autograd.grad(ours, tensors, grad)
    expected = torch.autograd.grad(reference, tensors, grad)
    for gradient, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("shape", [None, (5, 1, 1, 9), (5, 1, 7, 9), (1, 1, 7, 9)])
def test_it_equals_the_plain_products(block, shape):
    tensors = inputs()
    mask = None if shape is None else seen(shape)
    compare(blockwise_attention(*tensors, mask, 0.0, SCALE), plain(*tensors, mask, 1.0), tensors)


@pytest.mark.parametrize("p", [0.1, 0.6])
def test_it_equals_them_after_dropout(block, p):
    query, key, _ = inputs(d=9)
    mask = seen((5, 1, 1, 9))
    # With the unit matrix for values the output is what dropout left of the weights.
    unit = torch.eye(9, dtype=torch.float64).expand(5, 4, 9, 9)
    torch.manual_seed(3)
    left = blockwise_attention(query, key, unit, mask, p, SCALE)
    whole = plain(query, key, unit, mask, 1.0)
    keeps = torch.where(whole > 0, left / whole, 0.0).detach()
    values = keeps[whole > 0].unique()
    torch.testing.assert_close(
        values, torch.where(values < 0.5, 0.0 * values, inverse_keep_prob(p)), rtol=1e-9, atol=1e-12
    )
    assert 0 < (keeps > 0).sum() < (whole > 0).sum()
    tensors = query, key, inputs(d=9)[2]
    torch.manual_seed(3)
    compare(blockwise_attention(*tensors, mask, p, SCALE), plain(*tensors, mask, keeps), tensors)


def test_dropout_keeps_its_share(block):
    query, key, _ = inputs(n=40, t=30, u=30, d=30)
    unit = torch.eye(30, dtype=torch.float64).expand(40, 4, 30, 30)
    left = blockwise_attention(query, key, unit, None, 0.1, SCALE)
    assert (left > 0).double().mean().item() == pytest.approx(0.9, abs=5e-3)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_only_what_is_requested_has_a_gradient(block, which):
    tensors = [tensor.detach().requires_grad_(at == which) for at, tensor in enumerate(inputs())]
    ours = blockwise_attention(*tensors, None, 0.0, SCALE)
    compare(ours, plain(*tensors, None, 1.0), tensors[which])
    # Nothing is computed for the others either.
    context = blockwise_attention(*tensors, None, 0.0, SCALE).grad_fn
    assert context is not None
    grads = blockwise._BlockwiseAttention.backward(context, torch.ones_like(ours))
    assert [gradient is not None for gradient in grads[:3]] == [at == which for at in range(3)]


@pytest.mark.parametrize("kinds", [("float32", "float32", "bfloat16"), ("float32",) * 3])
def test_autocast(kinds):
    """Some encoders turn queries and keys in fp32 beside values in bf16."""
    tensors = [
        tensor.detach().to(getattr(torch, kind)).requires_grad_()
        for tensor, kind in zip(inputs(torch.float32), kinds, strict=True)
    ]
    with torch.autocast("cpu", torch.bfloat16):
        ours = blockwise_attention(*tensors, None, 0.0, SCALE)
    assert ours.dtype == torch.bfloat16
    expected = plain(*(tensor.double() for tensor in tensors), None, 1.0)
    torch.testing.assert_close(ours.double(), expected, rtol=0, atol=3e-2)
    ours.sum().backward()
    assert [tensor.grad.dtype for tensor in tensors] == [tensor.dtype for tensor in tensors]


def test_everything_dropped_is_nothing(monkeypatch):
    """A rate of 1, which blocks do not know."""
    monkeypatch.setattr(blockwise, "BLOCKWISE_MIN_PAIRS", 1)
    query, key, value = (tensor.detach() for tensor in inputs())
    call = AttentionInputs(query, key, value, None, 1.0, SCALE, None)
    assert not sdpa(query, key, value, None, call).any()


def test_the_backward_pass_waits_with_a_byte_a_pair(monkeypatch):
    query, key, value = inputs(torch.float32, n=4, heads=4, t=64, u=64, d=8)
    waiting = {}

    def count(tensor):
        waiting[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        output = blockwise_attention(query, key, value, None, 0.1, SCALE)
    pairs, inner = 4 * 4 * 64 * 64, 4 * 4 * 64 * 8
    assert sum(waiting.values()) == pairs + 3 * inner * 4
    assert output.shape == query.shape


@pytest.mark.parametrize("layout", ["unpadded", "packed"])
def test_a_whole_encoder_learns_the_same_through_it(encoder, batch, monkeypatch, layout):
    """Prefix and masks, and no block before the seam takes it."""
    rows, results, calls = batch([3, 9, 9, 17, 30], True), [], []

    def watched(*given):
        calls.append(blockwise.BLOCKWISE_MIN_PAIRS)
        return blockwise_attention(*given)

    monkeypatch.setattr(blockwise, "blockwise_attention", watched)
    for large in (1 << 40, 1):
        monkeypatch.setattr(blockwise, "BLOCKWISE_MIN_PAIRS", large)
        model = encoder("bert")
        torch.manual_seed(3)
        build(PrefixConfig(length=5), None, None).attach(model)
        logits = EncoderRunner(model, "sequence", layout)(rows)
        torch.nn.functional.cross_entropy(logits, rows.labels["labels"]).backward()
        results.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert set(calls) == {1}
    reference, ours = results
    assert ours.keys() == reference.keys() and "prefix.vectors" in ours
    for name in ours:
        torch.testing.assert_close(ours[name], reference[name], rtol=1e-10, atol=1e-12)


def test_bf16_and_inference(block):
    tensors = [tensor.detach().bfloat16() for tensor in inputs(torch.float32)]
    with torch.inference_mode():
        ours = blockwise_attention(*tensors, None, 0.0, SCALE)
    expected = plain(*(tensor.double() for tensor in tensors), None, 1.0)
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.double(), expected, rtol=0, atol=3e-2)
