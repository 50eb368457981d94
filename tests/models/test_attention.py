"""The attention function by itself, against torch's own, sequence by sequence, in fp64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bertft.errors import BertftError
from bertft.models.attention import attention_forward, prepend_prefix, varlen
from bertft.models.attention.varlen import interleave_prefix
from bertft.models.forward_state import AttentionInputs, ForwardState
from bertft.models.sequence_layout import SequenceLayout

CPU = torch.device("cpu")
HEADS, WIDTH, PREFIX = 2, 4, 3
LENGTHS = [2, 9, 9, 5, 30]
LAYOUTS = ["unpadded", "packed", "padded"]


class Layer(nn.Module):
    layer_idx = 1


def inputs(lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (3, sum(lengths), HEADS, WIDTH)
    return torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)


def prefix_of(length, seed=1):
    generator = torch.Generator().manual_seed(seed)
    shape = (2, 2, length, HEADS * WIDTH)  # two layers; Layer is the second
    return torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)


def forward_state(lengths, layout, prefix=None):
    prefix_length = 0 if prefix is None else prefix.shape[2]
    return ForwardState(SequenceLayout(lengths, layout, CPU, prefix_length=prefix_length), prefix)


def laid_out(tokens, layout, fill=0.0):
    """[N, heads, d] → [R, W, heads, d], ``fill`` in the slots without a token."""
    slots = tokens.new_full((*layout.shape, HEADS, WIDTH), fill)
    flat = slots.flatten(0, 1).index_copy(0, layout.token_indices(), tokens)
    return flat.unflatten(0, layout.shape)


def attended(tokens, lengths, layout, prefix=None, window=None, scaling=None, fill=0.0):
    """[N, heads, d] in every layout."""
    state = forward_state(lengths, layout, prefix)
    output, none = attention_forward(
        Layer(), *(laid_out(token, state.layout, fill).transpose(1, 2) for token in tokens),
        scaling=scaling, sliding_window=window, forward_state=state,
    )  # fmt: skip
    assert none is None and state.attention_calls == 1
    return output.flatten(0, 1)[state.layout.token_indices()]


def reference(tokens, lengths, prefix=None, window=None, scaling=None):
    rows, at = [], 0
    for length in lengths:
        q, k, v = (token[at : at + length].transpose(0, 1) for token in tokens)  # [heads, t, d]
        steps = torch.arange(length)
        mask = torch.ones(length, length, dtype=torch.bool)
        if window is not None:
            mask = (steps[:, None] - steps[None, :]).abs() < window
        if prefix is not None:
            before = prefix[1].unflatten(2, (HEADS, WIDTH)).transpose(1, 2)
            k, v = torch.cat([before[0], k], 1), torch.cat([before[1], v], 1)
            mask = torch.cat([torch.ones(length, prefix.shape[2], dtype=torch.bool), mask], 1)
        rows.append(F.scaled_dot_product_attention(q, k, v, mask, scale=scaling).transpose(0, 1))
        at += length
    return torch.cat(rows)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("window", [None, 1, 4, 100])
@pytest.mark.parametrize("before", [0, PREFIX])
@pytest.mark.parametrize("lengths", [LENGTHS, [7, 7], [1], [200, 300, 2]])
def test_equals_torchs_own_row_by_row(lengths, before, window, layout):
    """Outputs and gradients of queries, keys, values and prefix."""
    results = []
    torch.manual_seed(2)
    weights = torch.randn(sum(lengths), HEADS, WIDTH, dtype=torch.float64)
    for run in (lambda *args: attended(*args[:2], layout, *args[2:]), reference):
        tokens = inputs(lengths)
        prefix = prefix_of(before) if before else None
        output = run(tokens, lengths, prefix, window)
        leaves = [tokens] if prefix is None else [tokens, prefix]
        results.append((output, *torch.autograd.grad((output * weights).sum(), leaves)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_scaling(layout):
    tokens = inputs(LENGTHS)
    actual = attended(tokens, LENGTHS, layout, scaling=0.7)
    torch.testing.assert_close(actual, reference(tokens, LENGTHS, scaling=0.7), rtol=0, atol=1e-12)
    assert (actual - reference(tokens, LENGTHS)).abs().max() > 0.01


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("before", [0, PREFIX])
def test_what_stands_in_empty_cells_does_not_matter(before, window, layout):
    results = []
    for fill in (0.0, 1e4):
        tokens, prefix = inputs(LENGTHS), prefix_of(before) if before else None
        output = attended(tokens, LENGTHS, layout, prefix, window, fill=fill)
        results.append((output, *torch.autograd.grad(output.square().sum(), tokens)))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("layout", ["unpadded", "padded"])
@pytest.mark.parametrize("bad", range(len(LENGTHS)))
def test_a_sequence_that_is_nan_keeps_it_to_itself(layout, window, bad):
    """Also in the gradients, and where rows of unlike lengths share a call."""
    starts = [sum(LENGTHS[:number]) for number in range(len(LENGTHS))]
    in_bad_sequence = torch.zeros(sum(LENGTHS), dtype=torch.bool)
    in_bad_sequence[starts[bad] : starts[bad] + LENGTHS[bad]] = True
    results = []
    for value in (0.0, float("nan")):
        tokens = inputs(LENGTHS).detach()
        tokens[:, in_bad_sequence] += value
        tokens.requires_grad_()
        output = attended(tokens, LENGTHS, layout, window=window)
        gradient = torch.autograd.grad(output[~in_bad_sequence].square().sum(), tokens)[0]
        results.append((output[~in_bad_sequence], gradient[:, ~in_bad_sequence]))
        assert output[in_bad_sequence].isnan().any() == (value != value)
    for one, other in zip(*results, strict=True):
        assert other.isfinite().all() and torch.equal(one, other)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_beyond_the_window_of_a_shorter_one_leave_its_gradients_finite(layout):
    """The padding of a short row sees none of its tokens through ModernBERT's window."""
    tokens = inputs([2, 30])
    output = attended(tokens, [2, 30], layout, window=4)
    [gradient] = torch.autograd.grad(output.sum(), tokens)
    assert gradient.isfinite().all() and gradient[2].abs().min() > 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_dropout_acts_on_the_weights_and_keeps_their_mean(layout):
    state = forward_state([4, 6], layout)
    q, k, v = (laid_out(tensor, state.layout).transpose(1, 2) for tensor in inputs([4, 6]).detach())

    def output(dropout):
        outputs = attention_forward(Layer(), q, k, v, dropout=dropout, forward_state=state)[0]
        return outputs.flatten(0, 1)[state.layout.token_indices()]

    torch.manual_seed(0)
    drawn, exact = torch.stack([output(0.5) for _ in range(2000)]), output(0.0)
    assert (drawn[0] - drawn[1]).abs().max() > 0.1
    error = (drawn.mean(0) - exact).abs() / (drawn.std(0) / 2000**0.5)
    assert error.max() < 5


def test_shared_modules_are_counted_by_their_calls():
    """ALBERT has no layer index: the second call is the second layer."""
    tokens, prefix = inputs([4]), prefix_of(PREFIX)
    state = forward_state([4], "unpadded", prefix)
    q, k, v = (token[None].transpose(1, 2) for token in tokens)
    first, second = (
        attention_forward(nn.Module(), q, k, v, forward_state=state)[0][0] for _ in range(2)
    )
    torch.testing.assert_close(second, reference(tokens, [4], prefix), rtol=0, atol=1e-12)
    torch.testing.assert_close(first, reference(tokens, [4], prefix.flip(0)), rtol=0, atol=1e-12)


def test_without_a_forward_state_it_refuses():
    q, k, v = (tensor[None].transpose(1, 2) for tensor in inputs([4]))
    with pytest.raises(BertftError, match="call it with EncoderRunner"):
        attention_forward(Layer(), q, k, v)


@pytest.mark.parametrize("before", [1, 3])
@pytest.mark.parametrize("lengths", [[4], [2, 5, 1], [3, 3]])
def test_the_prefix_interleaved_is_the_prefix_joined(lengths, before):
    """What variable-length kernels get is, sequence by sequence, what the others get."""
    tokens = inputs(lengths)
    prefix = torch.randn(2, HEADS, before, WIDTH, dtype=torch.float64, requires_grad=True)
    layout = SequenceLayout(lengths, "unpadded", CPU)
    actual = interleave_prefix(prefix[0].transpose(0, 1), tokens[1], layout)
    rows = []
    for row in tokens[1].split(lengths):
        key, _ = prepend_prefix(prefix, row.transpose(0, 1)[None], row.transpose(0, 1)[None])
        rows.append(key[0].transpose(0, 1))
    expected = torch.cat(rows)
    assert torch.equal(actual, expected)
    weights = torch.randn_like(expected)
    for leaf in (tokens, prefix):
        ours = torch.autograd.grad((actual * weights).sum(), leaf, retain_graph=True)[0]
        theirs = torch.autograd.grad((expected * weights).sum(), leaf, retain_graph=True)[0]
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("change", "served"),
    [
        ({}, True),
        ({"width": 26}, False),  # 312 / 12: the kernel pads nothing
        ({"width": 256}, False),
        ({"dropout": 0.1}, False),
        ({"dtype": torch.float32}, False),
        ({"window": 5}, True),
        ({"window": 5, "prefix": True}, False),
    ],
)
def test_the_varlen_kernel_serves_what_it_takes(monkeypatch, change, served):
    monkeypatch.setattr(varlen, "is_varlen_available", lambda device: True)
    monkeypatch.setattr(varlen, "_supports_window", lambda: True)
    width = change.get("width", 64)
    tensor = torch.zeros(1, 2, 7, width, dtype=change.get("dtype", torch.bfloat16))
    prefix = torch.zeros(2, 2, 3, width) if change.get("prefix") else None
    call = AttentionInputs(
        tensor, tensor, tensor, prefix, change.get("dropout", 0.0), 1.0, change.get("window")
    )
    assert varlen.is_varlen_supported(call) is served


@pytest.mark.parametrize(
    ("capability", "flash", "hip", "there"),
    [
        ((8, 0), True, None, True),
        ((7, 5), True, None, False),
        ((9, 0), False, None, False),
        ((9, 0), True, "6.2", False),
    ],
)
def test_where_the_varlen_kernel_is(monkeypatch, capability, flash, hip, there):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: flash)
    monkeypatch.setattr(torch.version, "hip", hip)
    if there:
        pytest.importorskip("torch.nn.attention.varlen")
    assert varlen.is_varlen_available.__wrapped__(torch.device("cuda")) is there
    assert varlen.is_varlen_available.__wrapped__(CPU) is False
