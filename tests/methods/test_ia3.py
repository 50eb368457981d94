"""IA³ against peft and against a plain reference, in fp64; and with other methods on one layer."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bertft.errors import BertftError, DataError, UsageError
from bertft.methods import collect_param_groups
from bertft.methods.ia3 import IA3, ScaledLinear, from_peft
from bertft.models.runner import EncoderRunner

peft = pytest.importorskip("peft")

LENGTHS = [4, 9, 9, 17]
KINDS = ("bert", "roberta", "distilbert", "albert", "electra", "modernbert", "deberta-v2", "mpnet")
IDS = torch.randint(5, 60, (4, 9), generator=torch.Generator().manual_seed(3))
LABELS = torch.tensor([0, 1, 2, 0])


def ia3_of(components) -> IA3:
    return next(component for component in components if component.name == "ia3")


def stir(model, seed: int = 5) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".adapter." in name:
                parameter += 0.3 * torch.randn(
                    parameter.shape, generator=generator, dtype=parameter.dtype
                )


def logits(model):
    return model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits


def adapter_of(component, model):
    """Settings and tensors in peft's format, the tensors in fp64."""
    settings, tensors = component.peft_adapter(model)
    return settings, {name: tensor.double() for name, tensor in tensors.items()}


def peft_model(base, settings, tensors):
    config = peft.IA3Config(**{key: value for key, value in settings.items() if key != "peft_type"})
    config.inference_mode = False
    theirs = peft.get_peft_model(copy.deepcopy(base), config).double().eval()
    outcome = peft.set_peft_model_state_dict(theirs, tensors)
    assert not outcome.unexpected_keys
    assert not [name for name in outcome.missing_keys if "ia3" in name]
    return theirs


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_step_begins_from_the_base(encoder, adapt, kind):
    model = encoder(kind)
    before = logits(model)
    adapt(model, ia3={})
    assert torch.equal(logits(model), before)


@pytest.mark.parametrize("kind", ["bert", "distilbert", "modernbert", "albert"])
def test_forward_and_gradients_are_those_of_peft(encoder, adapt, kind):
    base, model = encoder(kind), encoder(kind)
    component = ia3_of(adapt(model, ia3={}))
    stir(model)
    for layer in model.modules():  # representable in fp32, as which adapters are written
        if isinstance(layer, ScaledLinear):
            for factor in layer.adapter.values():
                factor.data = factor.data.float().double()
    theirs = peft_model(base, *adapter_of(component, model))
    assert (logits(theirs) - logits(model)).abs().max() < 1e-10
    assert (logits(model) - logits(base)).abs().max() > 1e-2
    for network in (model, theirs):
        F.cross_entropy(logits(network), LABELS).backward()
    ours = {
        path: torch.cat([parameter.grad for parameter in layer.adapter.values()])
        for path, layer in model.named_modules()
        if isinstance(layer, ScaledLinear)
    }
    compared = 0
    for name, parameter in theirs.named_parameters():
        if ".ia3_l." in name:
            path = name.removeprefix("base_model.model.").partition(".ia3_l")[0]
            gradient = parameter.grad.flatten()
            if len(ours[path]) < len(gradient):  # of a fused matrix query is not scaled
                gradient = gradient[-len(ours[path]) :]
            assert (gradient - ours[path]).abs().max() < 1e-10
            compared += 1
    assert compared == len(ours) > 0


def test_targets_are_those_that_peft_takes(encoder, adapt):
    """Without attention.output.dense, which peft's own list for BERT has too."""
    base, model = encoder(), encoder()
    component = ia3_of(adapt(model, ia3={}))
    config = peft.IA3Config(
        target_modules=r".*(key|value|\d\.output\.dense)",
        feedforward_modules=r".*\d\.output\.dense",
    )
    theirs = peft.get_peft_model(base, config)
    named = {name: tensor.shape for name, tensor in peft.get_peft_model_state_dict(theirs).items()}
    assert named == {
        name: tensor.shape for name, tensor in component.peft_adapter(model)[1].items()
    }


def test_gradients_against_a_plain_reference(encoder, adapt):
    """One layer by hand: y = l ⊙ (W·x + b) and y = W·(l ⊙ x) + b."""
    torch.manual_seed(0)
    linear = nn.Linear(5, 4).double()
    x = torch.randn(3, 5, dtype=torch.float64)
    after, before = ScaledLinear(copy.deepcopy(linear), {"key": None}), ScaledLinear(linear, None)
    for layer, size in ((after, 4), (before, 5)):
        (factors,) = layer.adapter.values()
        with torch.no_grad():
            factors.copy_(torch.randn(size, dtype=torch.float64))
        inputs = x.clone().requires_grad_()
        weights = torch.arange(12.0, dtype=torch.float64).view(3, 4)
        (layer(inputs) * weights).sum().backward()
        weight, bias = layer.weight.detach(), layer.bias.detach()
        if layer is after:
            expected = (weights * (x @ weight.T + bias)).sum(0)
            wanted = (weights * factors) @ weight
        else:
            expected = ((weights @ weight) * x).sum(0)
            wanted = (weights @ weight) * factors
        torch.testing.assert_close(factors.grad, expected.detach(), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(inputs.grad, wanted.detach(), rtol=1e-12, atol=1e-12)
        assert torch.autograd.gradcheck(layer, inputs)


@pytest.mark.parametrize("layout", ["unpadded", "packed", "padded"])
@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_layouts_agree(encoder, adapt, batch, kind, layout):
    """With the logits of transformers' own forward pass, a row at a time."""
    model = encoder(kind)
    adapt(model, ia3={})
    stir(model)
    rows = batch(LENGTHS)
    with torch.no_grad():
        expected = torch.cat([model(word[None]).logits for word in rows.input_ids.split(LENGTHS)])
        logits = EncoderRunner(model, "sequence", layout=layout)(rows)
    assert (logits - expected).abs().max() < 1e-10


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", [{}, {"rank": 2, "low_rank": {"targets": "all_linear"}}])
def test_folded_equals_adapted(encoder, adapt, kind, other):
    """Alone, and scaling what LoRA has changed: diag(l)·(W + ΔW)."""
    base, model = encoder(kind), encoder(kind)
    components = adapt(model, ia3={}, **other)
    stir(model)
    before = logits(model)
    assert (before - logits(base)).abs().max() > 1e-2
    for component in components:
        component.fold(model)
    assert (logits(model) - before).abs().max() < 1e-10
    assert model.state_dict().keys() == base.state_dict().keys()
    assert not any(isinstance(module, ScaledLinear) for module in model.modules())


def test_one_weight_by_hand_with_lora(encoder, adapt):
    model = encoder()
    components = adapt(model, rank=2, low_rank={"targets": ["value"], "alpha": 4.0}, ia3={})
    stir(model)
    layer = model.bert.encoder.layer[0].attention.self.value
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    factors = layer.adapter["value"].detach().clone()
    update = layer.inner.adapter["value"]
    expected = factors[:, None] * (weight + 2.0 * (update.B @ update.A).detach())
    for component in components:
        component.fold(model)
    plain = model.bert.encoder.layer[0].attention.self.value
    torch.testing.assert_close(plain.weight.detach(), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(plain.bias.detach(), factors * bias, rtol=1e-12, atol=1e-12)


def test_a_fused_matrix_is_scaled_by_roles(encoder, adapt):
    model = encoder("modernbert")
    adapt(model, ia3={"targets": ["key", "ffn_out"]})
    stir(model)
    layer = model.model.layers[1].attn.Wqkv
    assert {name: factor.shape for name, factor in layer.adapter.items()} == {"key": (24,)}
    factors = layer.output_factors()
    assert torch.equal(factors[:24], torch.ones(24).double())
    assert torch.equal(factors[48:], torch.ones(24).double())
    assert torch.equal(factors[24:48], layer.adapter["key"])


def test_what_trains_and_its_counts(encoder, adapt):
    model = encoder()
    components = adapt(model, ia3={"learning_rate": 0.5})
    (group,) = [group for group in collect_param_groups(components, model) if group.name == "ia3"]
    assert not group.use_weight_decay and group.learning_rate == 0.5
    count = 3 * (24 + 24 + 40)
    assert sum(parameter.numel() for _, parameter in group.parameters) == count
    assert ia3_of(components).parameter_counts(model) == dict.fromkeys(
        ("trainable", "kept", "exported"), count
    )
    assert ia3_of(adapt(encoder(), ia3={}, rate=0.25)).learning_rate == 0.25


def test_factors_stay_in_fp32():
    torch.manual_seed(0)
    layer = ScaledLinear(nn.Linear(64, 64).bfloat16(), {"key": None})
    (factors,) = layer.adapter.values()
    assert factors.dtype == torch.float32
    x = torch.randn(256, 64).bfloat16()
    before = layer(x)
    with torch.no_grad():
        factors.fill_(1.011)  # in bf16 it would be 1.0078
    assert layer(x).dtype == torch.bfloat16
    assert torch.equal(layer(x), (before.float() * 1.011).bfloat16())
    assert not torch.equal(layer(x), before * torch.tensor(1.011).bfloat16())
    with pytest.raises(BertftError, match="bfloat16, in which a fold would lose"):
        IA3(None, 1.0).fold(nn.Sequential(layer))


def test_the_report_shows_how_far_the_factors_moved(encoder, adapt):
    model = encoder()
    component = ia3_of(adapt(model, rank=2, low_rank={"targets": ["value"]}, ia3={}))
    with torch.no_grad():
        model.bert.encoder.layer[1].attention.self.value.adapter["value"].fill_(0.75)
    (grid,) = component.report_items(model, {})
    assert list(grid.rows) == ["0", "1", "2"]
    assert list(grid.columns) == ["key", "value", "output.dense"]
    assert np.allclose(grid.values, np.array([[0, 0, 0], [0, 0.25, 0], [0, 0, 0]]))


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_what_was_written_is_read(encoder, adapt, kind):
    model = encoder(kind)
    component = ia3_of(adapt(model, ia3={}))
    stir(model)
    again = encoder(kind)
    read = from_peft(*component.peft_adapter(model))
    read.attach(again)
    assert (logits(again) - logits(model)).abs().max() < 1e-5
    assert read.parameter_counts(again)["kept"] >= component.parameter_counts(model)["kept"]
    assert not any(
        parameter.requires_grad
        for name, parameter in again.named_parameters()
        if ".adapter." in name
    )
    read.fold(again)
    assert (logits(again) - logits(model)).abs().max() < 1e-5


def test_what_peft_trained_gives_the_same_logits_here(encoder):
    base = encoder()
    config = peft.IA3Config(task_type="SEQ_CLS")
    theirs = peft.get_peft_model(copy.deepcopy(base), config).double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in theirs.parameters():
            if parameter.requires_grad:
                parameter += 0.2 * torch.randn(
                    parameter.shape, generator=generator, dtype=parameter.dtype
                )
    content = {**dataclasses.asdict(config), "peft_type": "IA3"}
    from_peft(content, peft.get_peft_model_state_dict(theirs)).attach(base)
    assert (logits(base) - logits(theirs)).abs().max() < 1e-10


PATH = "base_model.model.bert.encoder.layer.0.attention.self.key.ia3_l"


@pytest.mark.parametrize(
    ("settings", "tensors", "words"),
    [
        ({"fan_in_fan_out": True}, {}, "fan_in_fan_out is not supported"),
        ({}, {PATH: torch.ones(25, 1)}, "do not fit"),
        ({}, {PATH: torch.ones(24)}, "do not fit"),
        ({}, {PATH: torch.ones(())}, "do not fit"),
        ({}, {PATH.replace("key", "kee"): torch.ones(24, 1)}, "no linear layer"),
        ({}, {PATH.replace("ia3_l", "ia4"): torch.ones(24, 1)}, "the model has no"),
    ],
)
def test_what_does_not_fit_is_refused(encoder, settings, tensors, words):
    with pytest.raises(DataError, match=words):
        from_peft(settings, tensors).attach(encoder())


@pytest.mark.parametrize(
    ("kind", "changes", "where", "words"),
    [
        ("bert", {"targets": ["kee"]}, "targets", "matches no linear layer"),
        ("bert", {"feedforward": ["fnn_out"]}, "feedforward", "matches no linear layer"),
        ("bert", {"feedforward": ["ffn_in"]}, "feedforward", "is not in method.ia3.targets"),
        ("modernbert", {"feedforward": ["key"]}, "feedforward", "shares its matrix"),
    ],
)
def test_layers_that_cannot_be_scaled(encoder, adapt, kind, changes, where, words):
    with pytest.raises(UsageError, match=words) as caught:
        adapt(encoder(kind), ia3=changes)
    assert caught.value.where == f"method.ia3.{where}"
