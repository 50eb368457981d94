"""Which calls the hand-written layers compute, and that they follow changes of the weights."""

from __future__ import annotations

import copy
import io
import pickle
import threading

import pytest
import safetensors.torch
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


def check_against_modules(runner, rows):
    torch.testing.assert_close(runner(rows), plain_logits(runner, rows), rtol=1e-4, atol=1e-5)


def test_new_weights_at_the_address_of_old_ones(encoder, batch):
    """As after ``model.bfloat16().float()``: the allocator returns memory that was just freed."""
    model, rows = lora(encoder("bert")).float().eval(), batch(LENGTHS)
    runner, weight = EncoderRunner(model, "sequence"), encoder_layers(model)[1].output.dense.weight
    memory = weight.detach().numpy().copy()
    weight.data = torch.from_numpy(memory)
    check_against_modules(runner, rows)
    state = weight.data_ptr(), weight._version
    memory *= -2.0
    weight.data = torch.from_numpy(memory)
    assert (weight.data_ptr(), weight._version) == state
    check_against_modules(runner, rows)


def test_a_layer_that_trains_for_a_while(encoder, batch):
    """The fused optimizer changes weights without counting their versions."""
    model, rows = lora(encoder("bert")).float().eval(), batch(LENGTHS)
    runner, layer = EncoderRunner(model, "sequence"), encoder_layers(model)[1]
    check_against_modules(runner, rows)
    weights = [layer.output.dense.weight, layer.intermediate.dense.weight]
    for weight in weights:
        weight.requires_grad_(True)
    optimizer = torch.optim.AdamW(weights, lr=0.1, fused=True)
    runner(rows).sum().backward()
    optimizer.step()
    for weight in weights:
        weight.requires_grad_(False)
    check_against_modules(runner, rows)
    assert fused_calls(model) == [3, 2, 3]


def test_weights_that_were_made_in_inference_mode(encoder, batch):
    """torch does not count their changes."""
    with torch.inference_mode():
        model, rows = lora(encoder("bert")).float().eval(), batch(LENGTHS)
        runner = EncoderRunner(model, "sequence")
        for _ in range(2):
            check_against_modules(runner, rows)
            encoder_layers(model)[1].output.dense.weight.mul_(-2.0)
    assert fused_calls(model) == [2, 2, 2]


class DoubledNorm(torch.nn.LayerNorm):
    def forward(self, input):
        return 2 * super().forward(input)


@pytest.mark.parametrize(
    ("path", "make"),
    [
        ("attention.self", lambda old: copy.deepcopy(old).apply(negate_weight)),
        ("output.LayerNorm", lambda _: DoubledNorm(24)),
        ("output.LayerNorm", lambda _: torch.nn.LayerNorm(24, bias=False)),
        ("output.LayerNorm", lambda _: torch.nn.LayerNorm(24, elementwise_affine=False)),
        ("intermediate.intermediate_act_fn", lambda _: torch.nn.ReLU()),
        ("output.dropout", lambda _: torch.nn.Identity()),
        ("attention.self.dropout", lambda _: torch.nn.AlphaDropout(0.0)),
    ],
)
def test_replaced_modules(model, batch, path, make):
    """Of any kind, after the layer has been computed."""
    layer, rows = encoder_layers(model.train())[1], batch(LENGTHS)
    runner = EncoderRunner(model, "sequence")
    runner(rows)
    replacement = make(layer.get_submodule(path)).double().requires_grad_(False)
    layer.set_submodule(path, replacement)
    expected = plain_logits(runner, rows)
    torch.testing.assert_close(runner(rows), expected, rtol=1e-10, atol=1e-10)
    fused_now = 1 if path != "attention.self" else 2
    assert fused_calls(model) == [2, fused_now, 2]


def negate_weight(module):
    if type(module) is torch.nn.Linear:
        with torch.no_grad():
            module.weight.neg_()


def test_hooks_of_all_modules_are_called(model, batch):
    seen, rows, runner = [], batch(LENGTHS), EncoderRunner(model, "sequence")
    handle = torch.nn.modules.module.register_module_forward_hook(
        lambda module, *_: seen.append(module)
    )
    try:
        runner(rows)
    finally:
        handle.remove()
    assert all(layer.output.dense in seen for layer in encoder_layers(model))
    assert fused_calls(model) == [0, 0, 0]
    runner(rows)
    assert fused_calls(model) == [1, 1, 1]


def test_copies_and_pickles_of_packed_weights(encoder, batch):
    model, rows = lora(encoder("bert")).float().eval(), batch(LENGTHS)
    runner = EncoderRunner(model, "sequence")
    layers = encoder_layers(model)
    size_before = len(pickle.dumps(layers[0]))
    runner(rows).sum().backward()
    model.zero_grad()
    twin = copy.deepcopy(runner)
    assert torch.equal(twin(rows), runner(rows))
    assert len(pickle.dumps(layers[0])) == size_before
    loaded = pickle.loads(pickle.dumps(layers[0]))
    assert loaded.forward.layer is loaded


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_saved_weights_after_a_pass(encoder, batch, tmp_path, dtype):
    """Query, key and value share memory, but every file contains each of them once."""
    model = encoder("bert").to(dtype).requires_grad_(False)
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    EncoderRunner(model, "sequence")(batch(LENGTHS))
    assert fused_calls(model) == [1, 1, 1]
    safetensors.torch.save_model(model, tmp_path / "model")
    safetensors.torch.save_file(model.state_dict(), tmp_path / "state")
    model.save_pretrained(tmp_path)
    for file in ("model", "state", "model.safetensors"):
        saved = safetensors.torch.load_file(tmp_path / file)
        assert saved.keys() == expected.keys()
        assert all(torch.equal(saved[name], expected[name]) for name in expected), file
    sizes = []
    query = encoder_layers(model)[0].attention.self.query.weight
    for tensor in (query, torch.nn.Parameter(query.clone(), requires_grad=False)):
        buffer = io.BytesIO()
        torch.save(tensor, buffer)
        sizes.append(len(buffer.getvalue()))
    assert sizes[0] == sizes[1]


def test_threads_join_weights_once(encoder, batch, monkeypatch):
    """Otherwise, a thread's product would be of memory that the parameters have left."""
    model, rows = lora(encoder("bert")).float().eval(), batch(LENGTHS)
    runner, start = EncoderRunner(model, "sequence"), threading.Barrier(4)
    outputs, cat = [], torch.cat

    def slow_cat(tensors, *arguments):
        joined = cat(tensors, *arguments)
        threading.Event().wait(0.01)
        return joined

    def run():
        start.wait()
        with torch.no_grad():
            outputs.append(runner(rows))

    monkeypatch.setattr(products.torch, "cat", slow_cat)
    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    monkeypatch.undo()
    expected = plain_logits(runner, rows)
    assert len(outputs) == 4
    for output in outputs:
        torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)
    for layer in encoder_layers(model):
        weights, _ = layer.forward._structure._weights
        assert weights.qkv.weight.data_ptr() == layer.attention.self.query.weight.data_ptr()


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
    address = joined.data_ptr()
    del joined, again
    assert products.join_rows(tuple(frozen)).data_ptr() == address, "the parameters keep the memory"
    assert [parameter.untyped_storage().nbytes() for parameter in frozen] == [24] * 3
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
