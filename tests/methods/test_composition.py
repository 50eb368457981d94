"""Components together: they all train, each tensor in one group, and all of it is what is saved."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from bertft.config.trainer import TrainerConfig
from bertft.methods import collect_param_groups, trained_tensors
from bertft.models.runner import EncoderRunner
from bertft.training import optim as adamw

LENGTHS = [4, 9, 9, 17]
LORA = {"rank": 4, "low_rank": {"kind": "lora"}}
SVD = {"rank": 4, "low_rank": {"kind": "svd_lora", "start": "orthonormal"}}
PISSA = {"rank": 4, "low_rank": {"kind": "lora", "start": "principal"}}
METHODS = {
    "head": {},
    "full": {"base": {"train": "everything"}},
    "lora": LORA,
    "lora_prefix": {**LORA, "prefix": {"length": 3}},
    "lora_prompt": {**LORA, "prefix": {"kind": "prompt", "length": 3}},
    "svd_lora_prefix": {**SVD, "prefix": {"length": 3, "mlp": True, "mlp_hidden": 6}},
    "principal_prefix": {**PISSA, "prefix": {"length": 3}},
    "bitfit_lora_prefix": {**LORA, "base": {"train": "biases"}, "prefix": {"length": 3}},
    "ia3": {"ia3": {}},
    "vera": {"rank": 16, "low_rank": {"kind": "vera"}},
    "vera_ia3": {"rank": 16, "low_rank": {"kind": "vera", "targets": "all_linear"}, "ia3": {}},
    "lora_ia3": {"rank": 4, "low_rank": {"targets": "all_linear"}, "ia3": {}},
    "bitfit_lora_ia3_prefix": {
        **LORA, "base": {"train": "biases"}, "ia3": {"targets": "all_linear"},
        "prefix": {"length": 3},
    },
    "last_k_lora": {**LORA, "base": {"train": "last_k", "last_k": 1}},
}  # fmt: skip


def take(model, components, rows, steps=3):
    """A few steps as the loop takes them; the runner that took them."""
    runner = EncoderRunner(model, "sequence")
    optimizer = adamw.build_optimizer(collect_param_groups(components, model), TrainerConfig())
    for step in range(1, steps + 1):
        F.cross_entropy(runner(rows), rows.labels["labels"]).backward()
        for component in components:
            if (penalty := component.extra_loss()) is not None:
                penalty.backward()
        for component in components:
            component.before_step(step, 2 * steps)
        optimizer.step()
        for component in components:
            component.after_step(step, 2 * steps, optimizer)
        optimizer.zero_grad()
    return runner


@pytest.mark.parametrize("name", METHODS)
def test_groups_are_disjoint_and_complete(encoder, adapt, name):
    model = encoder()
    components = adapt(model, **METHODS[name])
    actual = collect_param_groups(components, model)
    parameter_ids = [id(parameter) for group in actual for _, parameter in group.parameters]
    trained = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    assert len(parameter_ids) == len(set(parameter_ids)) and set(parameter_ids) == trained
    assert len({group.name for group in actual}) == len(actual)
    named = dict(model.named_parameters())
    assert all(named[key] is parameter for group in actual for key, parameter in group.parameters)
    assert sum(component.parameter_counts(model)["trainable"] for component in components) == sum(
        parameter.numel() for parameter in model.parameters() if parameter.requires_grad
    )


@pytest.mark.parametrize("name", METHODS)
def test_all_that_trains_moves_and_nothing_else(encoder, adapt, batch, name):
    model = encoder()
    components = adapt(model, **METHODS[name])
    before = {key: parameter.detach().clone() for key, parameter in model.named_parameters()}
    take(model, components, batch(LENGTHS))
    for key, parameter in model.named_parameters():
        # Words that stand in no row keep their vectors but for decay.
        assert torch.equal(parameter, before[key]) is not parameter.requires_grad, key


def test_parts_are_attached_in_their_order_whatever_the_configuration_is(encoder, adapt):
    components = adapt(encoder(), **METHODS["bitfit_lora_prefix"])
    assert [component.name for component in components] == ["head", "base", "low_rank", "prefix"]


def test_lora_and_prefix_are_one_model(encoder, adapt, batch):
    """Each of the two changes the logits beside the other."""
    rows = batch(LENGTHS)
    model = encoder()
    runner = take(model, adapt(model, **METHODS["lora_prefix"]), rows)
    both = runner(rows).detach()
    prefix, model.prefix = model.prefix, None
    assert (runner(rows) - both).abs().max() > 1e-2
    model.prefix = prefix
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith(".B"):
                parameter.zero_()
    assert (runner(rows) - both).abs().max() > 1e-4


@pytest.mark.parametrize("name", METHODS)
def test_trained_tensors_are_all_that_a_checkpoint_needs(encoder, adapt, batch, name):
    rows = batch(LENGTHS)
    model = encoder()
    runner = take(model, adapt(model, **METHODS[name]), rows)
    saved = {key: tensor.detach().clone() for key, tensor in trained_tensors(model).items()}
    other = encoder()
    torch.manual_seed(99)  # other starts of what is new
    adapt(other, **METHODS[name])
    fresh = EncoderRunner(other, "sequence")
    if name != "full":
        assert not torch.equal(fresh(rows), runner(rows))
    wanted = trained_tensors(other)
    assert wanted.keys() == saved.keys()
    with torch.no_grad():
        for key, tensor in wanted.items():
            tensor.copy_(saved[key])
    assert torch.equal(fresh(rows), runner(rows))


def test_trained_tensors_hold_the_parts_buffers_but_not_the_models(encoder, adapt):
    model = encoder()
    adapt(model, **METHODS["principal_prefix"])
    actual = trained_tensors(model)
    assert "bert.encoder.layer.1.attention.self.query.adapter.query.A0" in actual
    assert not any("position_ids" in key or "token_type_ids" in key for key in actual)
    assert {key for key in actual if "adapter" not in key} == {
        "classifier.weight", "classifier.bias", "prefix.vectors"
    }  # fmt: skip
