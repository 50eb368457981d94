"""The forward pass: against peft, against plain arithmetic, and against the base at the start."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import ModernBertConfig, ModernBertForSequenceClassification

from bertft.methods.low_rank.fold import low_rank_layers
from bertft.methods.low_rank.lora import DoRA, LoRA, LowRankLinear
from bertft.methods.low_rank.svd_lora import SVDLoRA
from bertft.models.dropout import dropout as drop_out

TOWARDS_PEFT = {"A": "lora_A.default.weight", "B": "lora_B.default.weight",
                "magnitude": "lora_magnitude_vector.default.weight"}  # fmt: skip


@pytest.mark.parametrize("targets", [["query", "value"], ["all_linear"]])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        ({"use_rslora": True}, {"use_rslora": True}),
        ({"use_dora": True}, {"use_dora": True}),
        (
            {"use_dora": True, "use_rslora": True, "alpha": 3.0},
            {"use_dora": True, "use_rslora": True, "lora_alpha": 3},
        ),
    ],
)
def test_equals_peft(bert, build_component, logits, gradients, stir, ours, theirs, targets):
    model = bert()
    build_component(targets=targets, **ours).attach(model)
    stir(model)
    names = sorted(low_rank_layers(model))
    reference = get_peft_model(
        bert(), LoraConfig(**{"r": 4, "lora_alpha": 16, "target_modules": names, **theirs})
    ).eval()
    parameters = dict(model.named_parameters())
    mapped = {}
    with torch.no_grad():
        for name, parameter in parameters.items():
            path, _, letter = name.rpartition(".")
            if ".adapter." in name:
                layer = path.rpartition(".adapter.")[0]
                mapped[name] = f"base_model.model.{layer}.{TOWARDS_PEFT[letter]}"
                reference.get_parameter(mapped[name]).copy_(parameter)
    assert len(mapped) == len(names) * (3 if "use_dora" in ours else 2)
    assert (logits(model) - logits(reference)).abs().max() < 1e-10
    assert (logits(model) - logits(bert())).abs().max() > 0.1
    actual, expected = gradients(model), gradients(reference)
    for name, other in mapped.items():
        assert actual[name].abs().max() > 1e-6
        torch.testing.assert_close(actual[name], expected[other], rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "lora"},
        {"kind": "lora", "start": "principal"},
        {"kind": "lora", "use_dora": True},
        {"kind": "lora", "use_dora": True, "start": "principal"},
        {"kind": "svd_lora"},
        {"kind": "svd_lora", "start": "gaussian", "adapt": False},
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_nothing_changes_at_the_start(bert, build_component, logits, gradients, changes, dtype):
    """Exactly: the first evaluation of a run is the base's."""
    base, model = bert(dtype=torch.float32), bert(dtype=torch.float32)
    if dtype == torch.float64:
        base, model = base.double(), model.double()
    build_component(targets=["all_linear"], dropout=0.3, **changes).attach(model)
    if dtype == torch.bfloat16:
        base.to(dtype)
        for name, parameter in model.named_parameters():
            if ".adapter." not in name:
                parameter.data = parameter.data.to(dtype)
    model.eval()
    if dtype == torch.bfloat16 and changes.get("use_dora"):
        # The norms are those of the rounded weights, the magnitudes those of the weights.
        assert (logits(model) - logits(base)).abs().max() < 0.05
    else:
        assert torch.equal(logits(model), logits(base))
    moving = {name for name, gradient in gradients(model).items() if gradient.abs().max() > 0}
    assert any(name.endswith((".B", ".E")) for name in moving)


def test_the_base_keeps_its_names_and_tensors(bert, build_component):
    before, model = bert(), bert()
    parameters = dict(model.named_parameters())
    build_component(targets=["all_linear"]).attach(model)
    state, names = before.state_dict(), [name for name, _ in model.named_parameters()]
    assert {name for name in model.state_dict() if ".adapter." not in name} == set(state)
    assert [name for name in names if ".adapter." not in name] == list(parameters)
    for name, parameter in parameters.items():
        assert model.get_parameter(name) is parameter, "the very same object"
        assert parameter.requires_grad == name.startswith("classifier")
    new = [name for name in names if ".adapter." in name]
    assert "bert.encoder.layer.1.attention.self.query.adapter.query.A" in new
    assert all(model.get_parameter(name).requires_grad for name in new)


@pytest.mark.parametrize("kind", ["lora", "svd_lora"])
def test_parameters_stay_in_fp32_and_the_product_follows_its_input(build_component, bert, kind):
    model = bert(dtype=torch.bfloat16)
    build_component(kind=kind).attach(model)
    layer = model.get_submodule("bert.encoder.layer.0.attention.self.query")
    assert {parameter.dtype for parameter in layer.adapter.parameters()} == {torch.float32}
    assert layer(torch.randn(2, 24, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize("changes", [{}, {"use_dora": True}, {"kind": "svd_lora"}])
def test_autocast(bert, build_component, stir, changes):
    model = bert(dtype=torch.float32)
    build_component(dropout=0.1, **changes).attach(model)
    stir(model)
    layer = model.get_submodule("bert.encoder.layer.0.attention.self.query")
    x = torch.randn(2, 3, 24)
    exact = layer.eval()(x)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = layer(x)
        layer.train()(x).float().sum().backward()
    assert rounded.dtype == torch.bfloat16 and rounded.shape == (2, 3, 24)
    torch.testing.assert_close(rounded.float(), exact, rtol=0.05, atol=0.1)
    assert all(parameter.grad.dtype == torch.float32 for parameter in layer.adapter.parameters())


def modernbert() -> ModernBertForSequenceClassification:
    torch.manual_seed(0)
    config = ModernBertConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=40,
        vocab_size=64, pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1,
        sep_token_id=2, initializer_range=0.3,
    )  # fmt: skip
    model = ModernBertForSequenceClassification(config).double().eval()
    return model.requires_grad_(False)


@pytest.mark.parametrize("changes", [{}, {"kind": "svd_lora"}, {"use_dora": True}])
def test_slices_of_a_fused_matrix(build_component, stir, changes):
    model = modernbert()
    build_component(targets=["query", "value"], **changes).attach(model)
    stir(model)
    path = "model.layers.1.attn.Wqkv"
    layer = model.get_submodule(path)
    x = torch.randn(5, 24, dtype=torch.float64)
    query, key, value = layer.weight.split(24)
    adapters = {}
    for role in ("query", "value"):
        update = layer.adapter[role]
        middle = update.E if "kind" in changes else torch.ones(len(update.A)).double()
        adapters[role] = update.scale * update.B @ torch.diag(middle) @ update.A
    rows = [query + adapters["query"], key, value + adapters["value"]]
    if "use_dora" in changes:
        for folder, role in ((0, "query"), (2, "value")):
            norm = rows[folder].detach().norm(dim=1)
            rows[folder] = rows[folder] * (layer.adapter[role].magnitude / norm)[:, None]
    expected = F.linear(x, torch.cat(rows))
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)
    names, parameters = zip(*layer.adapter.named_parameters(), strict=True)
    weights = torch.randn(5, 72, dtype=torch.float64)
    actual = torch.autograd.grad((layer(x) * weights).sum(), parameters)
    wanted = torch.autograd.grad((expected * weights).sum(), parameters)
    for name, one, other in zip(names, actual, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11, msg=name)


def layer_with(adapter: type, dropout: float, bias: bool = True) -> LowRankLinear:
    torch.manual_seed(1)
    linear = nn.Linear(10, 6, bias=bias).double().requires_grad_(False)
    update = adapter(linear.weight, 2, 0.7)
    with torch.no_grad():
        for parameter in update.parameters():
            parameter += torch.randn_like(parameter)
    return LowRankLinear(linear, {"query": (None, update)}, dropout)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("adapter", [LoRA, SVDLoRA, DoRA])
def test_dropout_acts_on_the_input_of_the_update_alone(adapter, bias):
    """DoRA's scaled base term takes the dropped input too, as peft's does."""
    layer = layer_with(adapter, 0.25, bias).train()
    x = torch.randn(7, 10, dtype=torch.float64)
    torch.manual_seed(2)
    actual = layer(x)
    torch.manual_seed(2)
    z = drop_out(x, 0.25)
    assert 0 < (z == 0).sum() < 70
    update = layer.adapter["query"]
    down, up = update.scaled_factors()
    expected = F.linear(x, layer.weight, layer.bias)
    if adapter is DoRA:
        gain = update.magnitude / (layer.weight + up @ down).norm(dim=1)
        expected = expected + (gain - 1) * (z @ layer.weight.t()) + gain * (z @ down.t() @ up.t())
    else:
        expected = expected + z @ down.t() @ up.t()
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)
    assert torch.equal(layer.eval()(x), layer(x))


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("adapter", [LoRA, SVDLoRA])
def test_gradients(adapter, dropout):
    layer = layer_with(adapter, dropout).train()
    x = torch.randn(2, 3, 10, dtype=torch.float64, requires_grad=True)
    parameters = [parameter.requires_grad_() for parameter in layer.parameters()]

    def forward(x, *_):
        torch.manual_seed(3)
        return layer(x)

    assert torch.autograd.gradcheck(forward, (x, *parameters))


def test_gradient_checkpointing_sees_the_same_mask():
    layer = layer_with(LoRA, 0.5).train()
    x = torch.randn(7, 10, dtype=torch.float64)
    actual = []
    for call in (layer, lambda x: checkpoint(layer, x, use_reentrant=False)):
        torch.manual_seed(5)
        layer.zero_grad()
        call(x).square().sum().backward()
        actual.append([parameter.grad.clone() for parameter in layer.adapter.parameters()])
    for one, other in zip(*actual, strict=True):
        assert torch.equal(one, other)


def test_one_dimension_and_no_rows():
    layer = layer_with(LoRA, 0.1).eval()
    x = torch.randn(10, dtype=torch.float64)
    assert torch.equal(layer(x), layer(x[None])[0])
    assert layer(x.new_empty(2, 0, 10)).shape == (2, 0, 6)


def test_a_copy_is_a_model_of_its_own(bert, build_component, logits, stir):
    model = bert()
    build_component().attach(model)
    twin = copy.deepcopy(model)
    stir(model)
    assert torch.equal(logits(twin), logits(bert()))
    assert not torch.equal(logits(model), logits(twin))
