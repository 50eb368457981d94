"""VeRA against peft and against a plain reference, in fp64."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from bertft.errors import BertftError, DataError, UsageError
from bertft.methods import trained_tensors
from bertft.methods.low_rank.fold import low_rank_layers
from bertft.methods.low_rank.vera import VeRA, from_peft

peft = pytest.importorskip("peft")

LAYERS = {"targets": ["query", "value", "ffn_in", "ffn_out"]}
VERA = {"kind": "vera", "rank": 16, **LAYERS}


def updates(model) -> list[VeRA]:
    return [update for layer in low_rank_layers(model).values() for _, update in layer.updates()]


def peft_model(base, adapter, **changes):
    settings, tensors = adapter
    named = {key: value for key, value in settings.items() if key != "peft_type"}
    config = peft.VeraConfig(**{**named, "inference_mode": False, **changes})
    theirs = peft.get_peft_model(copy.deepcopy(base), config).double().eval()
    if tensors:
        outcome = peft.set_peft_model_state_dict(theirs, tensors)
        assert not outcome.unexpected_keys
        assert not [name for name in outcome.missing_keys if "vera_lambda" in name]
    return theirs


def rounded_to_fp32(model) -> None:
    """As which adapters are written."""
    for update in updates(model):
        for parameter in update.parameters():
            parameter.data = parameter.data.float().double()


def test_the_first_step_begins_from_the_base(bert, build_component, logits):
    model = bert()
    before = logits(model)
    build_component(**VERA).attach(model)
    assert torch.equal(logits(model), before)
    assert all((update.d == 0.1).all() and (update.b == 0).all() for update in updates(model))


def test_forward_and_gradients_are_those_of_peft(bert, build_component, stir, logits, gradients):
    base, model = bert(), bert()
    made = build_component(**VERA)
    made.attach(model)
    stir(model)
    rounded_to_fp32(model)
    theirs = peft_model(base, made.peft_adapter(model))
    assert (logits(model) - logits(base)).abs().max() > 1e-2
    assert (logits(theirs) - logits(model)).abs().max() < 1e-10
    ours, compared = gradients(model), 0
    for name, gradient in gradients(theirs).items():
        path, _, vector = name.removeprefix("base_model.model.").partition(".vera_lambda_")
        if vector:
            letter = vector[0]
            matches = [value for key, value in ours.items() if key.startswith(f"{path}.adapter.")
                   and key.endswith(f".{letter}")]  # fmt: skip
            assert (matches[0] - gradient).abs().max() < 1e-10
            compared += 1
    assert compared == 16


def test_a_seed_gives_the_matrices_that_it_gives_in_peft(bert, build_component):
    """Of the greatest shape, 40 × 40, though no layer is that large."""
    base, model = bert(), bert()
    made = build_component(**VERA, projection_seed=7)
    made.attach(model)
    settings, tensors = made.peft_adapter(model)
    theirs = peft_model(base, (settings, {}))
    for name in ("A", "B"):
        ours = tensors[f"base_model.vera_{name}"]
        assert ours.shape == {"A": (16, 40), "B": (40, 16)}[name]
        assert torch.equal(ours.double(), getattr(theirs.base_model, f"vera_{name}")["default"])
    other = bert()
    state = torch.get_rng_state()
    build_component(**VERA, projection_seed=8).attach(other)
    assert torch.equal(torch.get_rng_state(), state), "no other draw depends on it"
    (shared,) = updates(other)[0]._shared
    assert not torch.equal(shared.A.float(), tensors["base_model.vera_A"])


def test_gradients_against_a_plain_reference(bert, build_component, stir):
    model = bert()
    build_component(**VERA, d_initial=0.5).attach(model)
    stir(model)
    layer = model.bert.encoder.layer[1].attention.self.value
    update = layer.adapter["value"]
    (shared,) = update._shared
    x = torch.randn(3, 24, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(3, 24, dtype=torch.float64)
    (layer(x) * weights).sum().backward()
    with torch.no_grad():
        a, b = shared.A[:, :24], shared.B[:24]
        h = x @ a.T  # [3, 16]
        delta = update.b[:, None] * b @ (update.d[:, None] * a)
        torch.testing.assert_close(
            update.b.grad, (weights * (h * update.d @ b.T)).sum(0), rtol=1e-10, atol=1e-12
        )
        torch.testing.assert_close(
            update.d.grad, ((weights * update.b) @ b * h).sum(0), rtol=1e-10, atol=1e-12
        )
        torch.testing.assert_close(x.grad, weights @ (layer.weight + delta), rtol=1e-10, atol=1e-12)


def test_folded_equals_adapted(bert, build_component, stir, logits):
    base, model = bert(), bert()
    made = build_component(**VERA)
    made.attach(model)
    stir(model)
    before = logits(model)
    assert made.fold(model) == 8
    assert (logits(model) - before).abs().max() < 1e-10
    assert model.state_dict().keys() == base.state_dict().keys()


def test_the_matrices_are_saved_once_and_shared(bert, build_component, stir, logits):
    model = bert()
    build_component(**VERA, projection_seed=5).attach(model)
    stir(model)
    saved = {name: tensor.clone() for name, tensor in trained_tensors(model).items()}
    assert sum(name.endswith((".A", ".B")) for name in saved) == 2
    for moved in (copy.deepcopy(model), copy.deepcopy(model).to(torch.float32)):
        first, *others = updates(moved)
        assert all(update._shared[0] is first.projection for update in others)
    again = bert()
    build_component(**VERA, projection_seed=6).attach(
        again
    )  # other matrices, until they are loaded
    wanted = trained_tensors(again)
    assert wanted.keys() == saved.keys()
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(saved[name])
    assert torch.equal(logits(again), logits(model))


def test_what_trains_and_its_counts(bert, build_component):
    model = bert()
    made = build_component(**VERA, learning_rate=0.5)
    made.attach(model)
    (group,) = made.param_groups(model)
    assert (group.name, group.use_weight_decay, group.learning_rate) == (
        "low_rank/no_decay",
        False,
        0.5,
    )
    count = 2 * (4 * 16 + 24 + 24 + 40 + 24)
    assert sum(parameter.numel() for _, parameter in group.parameters) == count
    shared = 2 * 16 * 40
    assert made.parameter_counts(model) == {
        "trainable": count,
        "kept": count,
        "exported": count + shared,
    }
    titles = [item.title for item in made.report_items(model, {})]
    assert titles == ["Singular values, Σ σ", "Effective rank"]


def test_a_rank_above_the_width_is_useful(bert, build_component):
    build_component(kind="vera", rank=200).attach(bert())
    with pytest.raises(UsageError, match="rank 6,145 is too high") as caught:
        build_component(kind="vera", rank=6145).attach(bert())
    assert caught.value.where == "method.rank" and caught.value.hint == "Set it to at most 6,144"


@pytest.mark.parametrize("saved", [True, False])
def test_what_peft_trained_gives_the_same_logits_here(bert, logits, saved):
    base = bert()
    config = peft.VeraConfig(
        r=8, target_modules=["query", "layer.0.output.dense"], projection_prng_key=11,
        save_projection=saved,
    )  # fmt: skip
    theirs = peft.get_peft_model(copy.deepcopy(base), config).double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "vera_lambda" in name:
                parameter += 0.2 * torch.randn(
                    parameter.shape, generator=generator, dtype=parameter.dtype
                )
    content = {**dataclasses.asdict(config), "peft_type": "VERA"}
    tensors = peft.get_peft_model_state_dict(theirs)
    assert ("base_model.vera_A" in tensors) is saved
    read = from_peft(content, tensors)
    read.attach(base)
    assert (logits(base) - logits(theirs)).abs().max() < 1e-10
    assert (logits(base) - logits(bert())).abs().max() > 1e-3
    again = bert()
    from_peft(*read.peft_adapter(base)).attach(again)
    assert (logits(base) - logits(again)).abs().max() < 1e-5
    read.fold(base)
    assert (logits(base) - logits(theirs)).abs().max() < 1e-10


PATH = "base_model.model.bert.encoder.layer.0.attention.self.key.vera_lambda_"
GOOD = {f"{PATH}b": torch.zeros(24), f"{PATH}d": torch.zeros(4)}


@pytest.mark.parametrize(
    ("settings", "changes", "words"),
    [
        ({"fan_in_fan_out": True}, {}, "fan_in_fan_out is not supported"),
        ({}, {f"{PATH}b": torch.zeros(25)}, "do not fit"),
        ({}, {f"{PATH}d": torch.zeros(())}, "do not fit"),
        ({}, {f"{PATH}d": None}, "do not fit"),
        ({}, dict.fromkeys(GOOD), "has no VeRA vectors"),
        ({}, {PATH.replace("key", "kee") + "b": torch.zeros(24)}, "no linear layer"),
        ({}, {PATH.replace("key", "value") + "b": torch.zeros(24),
              PATH.replace("key", "value") + "d": torch.zeros(5)}, "do not fit its vectors"),
        ({}, {"base_model.vera_A": torch.zeros(4, 24)}, "do not fit its vectors"),
        ({}, {"base_model.vera_A": torch.zeros(4, 23), "base_model.vera_B": torch.zeros(24, 4)},
         "do not fit its vectors"),
        ({"projection_prng_key": "x"}, {}, "invalid value for 'projection_prng_key'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(bert, settings, changes, words):
    tensors = {name: tensor for name, tensor in {**GOOD, **changes}.items() if tensor is not None}
    with pytest.raises(DataError, match=words):
        from_peft(settings, tensors).attach(bert())


def test_a_weight_in_half_precision_is_not_folded(bert, build_component):
    model = bert(dtype=torch.bfloat16)
    made = build_component(**VERA)
    made.attach(model)
    assert all(update.b.dtype == torch.float32 for update in updates(model))
    with pytest.raises(BertftError, match="bfloat16, in which a fold would lose"):
        made.fold(model)
