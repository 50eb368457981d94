"""Which calls the hand-written layers compute, and that they follow changes of the weights."""

from __future__ import annotations

import copy

import pytest
import torch

from bertft.config.method import MethodConfig
from bertft.config.method_components import ia3, low_rank
from bertft.methods import attach_components, build_components
from bertft.models.families import encoder_layers
from bertft.models.forward_state import ActivationRecorder
from bertft.models.fused import dispatch, products
from bertft.models.runner import EncoderRunner

LENGTHS = [3, 9, 9, 17]


def lora(model, **settings):
    model.requires_grad_(False)
    nodes = {"low_rank": low_rank.LowRankConfig(targets=["query", "value"], **settings)}
    attach(model, nodes)
    return model


def attach(model, nodes):
    method = MethodConfig(name="test", rank=3, **nodes)
    attach_components(build_components(method), model, [])


def fused_calls(model):
    return [getattr(layer.forward, "fused_calls", None) for layer in encoder_layers(model)]


def plain_logits(runner, rows):
    """The logits by the code of transformers."""
    layers = encoder_layers(runner.model)
    replaced = [layer.__dict__.pop("forward") for layer in layers]
    try:
        return runner(rows)
    finally:
        for layer, forward in zip(layers, replaced, strict=True):
            layer.forward = forward


@pytest.fixture
def model(encoder):
    return lora(encoder("bert")).train()


def test_frozen_layers_with_updates_are_hand_written(model, batch):
    EncoderRunner(model, "sequence")(batch(LENGTHS))
    assert fused_calls(model) == [1, 1, 1]


@pytest.mark.parametrize("kind", ["albert", "modernbert", "deberta-v2"])
def test_other_architectures(encoder, batch, kind):
    model = lora(encoder(kind))
    EncoderRunner(model, "sequence")(batch(LENGTHS, kind != "modernbert"))
    if kind != "albert":  # its layers share one module
        assert fused_calls(model) == [None] * 3


@pytest.mark.parametrize(
    "nodes",
    [
        {"low_rank": low_rank.LowRankConfig(targets=["query"], use_dora=True)},
        {"low_rank": low_rank.LowRankConfig(targets=["query"], kind="vera")},
        {"ia3": ia3.IA3Config()},
        {"low_rank": low_rank.LowRankConfig(targets=["key"]), "ia3": ia3.IA3Config()},
    ],
    ids=["dora", "vera", "ia3", "lora_and_ia3"],
)
def test_other_methods(encoder, batch, nodes):
    model, rows = encoder("bert"), batch(LENGTHS)
    model.requires_grad_(False)
    attach(model, nodes)
    runner = EncoderRunner(model.eval(), "sequence")
    logits = runner(rows)
    assert fused_calls(model) == [0, 0, 0]
    assert torch.equal(logits, plain_logits(runner, rows))


def test_trained_layers_are_hand_written_only_without_gradients(encoder, batch):
    model, rows = encoder("bert"), batch(LENGTHS)
    model.requires_grad_(False)
    encoder_layers(model)[2].output.LayerNorm.bias.requires_grad_(True)
    runner = EncoderRunner(model, "sequence")
    logits = runner(rows)
    assert fused_calls(model) == [1, 1, 0]
    with torch.no_grad():
        torch.testing.assert_close(runner(rows), logits, rtol=1e-12, atol=1e-12)
    assert fused_calls(model) == [2, 2, 1]


def test_a_recorder_sees_all_states(model, batch):
    rows, runner = batch(LENGTHS), EncoderRunner(model, "sequence")
    recorder = ActivationRecorder(frozenset({1}), record_hidden=True)
    logits = runner(rows, recorder)
    assert fused_calls(model) == [0, 0, 0] and len(recorder.hidden_states) == 4
    torch.testing.assert_close(runner(rows), logits, rtol=1e-12, atol=1e-12)
    assert fused_calls(model) == [1, 1, 1], "transformers' hooks for outputs are not in the way"


def test_gradient_checkpointing(model, batch):
    model.gradient_checkpointing_enable({"use_reentrant": False})
    rows, runner = batch(LENGTHS), EncoderRunner(model, "sequence")
    runner(rows).sum().backward()
    assert fused_calls(model) == [0, 0, 0]
    model.eval()
    with torch.no_grad():
        runner(rows)
    assert fused_calls(model) == [1, 1, 1], "evaluation recomputes nothing"


def test_autocast(model, batch):
    with torch.autocast("cpu", torch.bfloat16):
        EncoderRunner(model.float(), "sequence")(batch(LENGTHS))
    assert fused_calls(model) == [0, 0, 0]


@pytest.mark.parametrize("path", ["output.dense", "attention.self", "attention.output.LayerNorm"])
def test_hooks_of_others_are_called(model, batch, path):
    seen = []
    handle = (
        encoder_layers(model)[1]
        .get_submodule(path)
        .register_forward_hook(lambda *_: seen.append(path))
    )
    rows, runner = batch(LENGTHS), EncoderRunner(model, "sequence")
    runner(rows)
    assert seen == [path] and fused_calls(model) == [1, 0, 1]
    handle.remove()
    runner(rows)
    assert fused_calls(model) == [2, 1, 2]


def test_a_part_in_another_mode(model, batch):
    encoder_layers(model)[0].output.dropout.eval()
    EncoderRunner(model, "sequence")(batch(LENGTHS))
    assert fused_calls(model) == [0, 1, 1]


@pytest.mark.parametrize("limit", [0, 1 << 30])
def test_changed_weights(encoder, batch, monkeypatch, limit):
    """In fp32, where copies of small weights are kept: loaded, folded, or replaced ones count."""
    monkeypatch.setattr(dispatch, "_MAX_PACKED_BYTES", limit)
    model, rows = lora(encoder("bert")).float().eval(), batch(LENGTHS)
    for name, parameter in model.named_parameters():
        if name.endswith(".B"):
            torch.nn.init.normal_(parameter, std=0.3)
    runner = EncoderRunner(model, "sequence")

    def check():
        torch.testing.assert_close(runner(rows), plain_logits(runner, rows), rtol=1e-4, atol=1e-5)

    check()
    layer = encoder_layers(model)[1]
    with torch.no_grad():
        layer.output.dense.weight.mul_(1.5)
        layer.attention.self.value.weight.mul_(-0.5)
    check()
    layer.intermediate.dense.weight.data = layer.intermediate.dense.weight.data * 0.5
    layer.attention.self.key.weight.data = layer.attention.self.key.weight.data * 2
    check()
    model.load_state_dict({name: value * 0.9 for name, value in model.state_dict().items()})
    check()
    from bertft.methods.low_rank.fold import fold_updates

    with torch.no_grad():
        before = runner(rows)
        assert fold_updates(model) == 6
        torch.testing.assert_close(runner(rows), before, rtol=1e-4, atol=1e-5)
    check()
    model.double()
    check()
    assert fused_calls(model) == [8, 8, 8]


@pytest.mark.parametrize("settings", [{"fused": True}, {"foreach": True}])
def test_evaluation_of_a_base_that_trains(encoder, batch, settings):
    """The fused optimizer changes weights without counting their versions."""
    model, rows = encoder("bert").float(), batch(LENGTHS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, **settings)
    runner = EncoderRunner(model, "sequence")
    for step in range(1, 3):
        runner(rows).square().sum().backward()
        optimizer.step()
        with torch.no_grad():
            logits = runner(rows)
            torch.testing.assert_close(logits, plain_logits(runner, rows), rtol=1e-4, atol=1e-5)
        assert fused_calls(model) == [step] * 3


def test_a_copy_of_the_model_is_independent(model, batch):
    rows, runner = batch(LENGTHS), EncoderRunner(model, "sequence")
    runner(rows)
    twin = copy.deepcopy(runner)
    assert encoder_layers(twin.model)[0].forward.layer is encoder_layers(twin.model)[0]
    expected = twin(rows)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(twin(rows), expected)
    assert fused_calls(model) == [1, 1, 1] and fused_calls(twin.model) == [3, 3, 3]


def test_joined_rows_share_memory_with_frozen_parameters():
    frozen = [torch.nn.Parameter(torch.randn(2, 3), requires_grad=False) for _ in range(3)]
    values = torch.cat([parameter.clone() for parameter in frozen])
    joined = products.join_rows(tuple(frozen))
    assert torch.equal(joined, values)
    assert [parameter.data_ptr() - joined.data_ptr() for parameter in frozen] == [0, 24, 48]
    frozen[1].zero_()
    again = products.join_rows(tuple(frozen))
    assert again.data_ptr() == joined.data_ptr() and not again[2:4].any()
    trained = [torch.nn.Parameter(torch.randn(2, 3)) for _ in range(3)]
    addresses = [parameter.data_ptr() for parameter in trained]
    products.join_rows(tuple(trained))
    assert [parameter.data_ptr() for parameter in trained] == addresses


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("packed", [False, True])
def test_products(dtype, packed):
    torch.manual_seed(0)
    weight, bias = torch.randn(48, 32, dtype=dtype), torch.randn(48, dtype=dtype)
    x, grad = torch.randn(70, 32, dtype=dtype), torch.randn(70, 48, dtype=dtype)
    product = products.FrozenProduct(weight, bias, packed)
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype]
    expected = x.double() @ weight.double().t() + bias.double()
    for actual, exact in (
        (product(x), expected),
        (product.gradient(grad), grad.double() @ weight.double()),
    ):
        error = (actual.double() - exact).abs().max() / exact.abs().max()
        assert actual.dtype == dtype and error < tolerance
