"""What no checkpoint had trains in every method; everything else is frozen first."""

from __future__ import annotations

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from bertft.errors import BertftError
from bertft.methods import collect_param_groups
from bertft.methods.base import NewModules

POOLER = ["bert.pooler.dense.bias", "bert.pooler.dense.weight"]


def trained(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("extra", [[], POOLER])
def test_the_new_train_and_nothing_else(encoder, extra):
    model = encoder()
    component = NewModules(["classifier.weight", "classifier.bias", *extra], 0.5)
    component.attach(model)
    assert (
        trained(model)
        == component.new_parameters
        == {"classifier.weight", "classifier.bias", *extra}
    )
    decayed, rest = component.param_groups(model)
    assert (decayed.name, decayed.use_weight_decay, decayed.learning_rate) == ("head", True, 0.5)
    assert (rest.name, rest.use_weight_decay, rest.learning_rate) == ("head/no_decay", False, 0.5)
    assert {name for name, _ in decayed.parameters} == {
        name for name in component.new_parameters if name.endswith("weight")
    }
    assert {name for name, _ in rest.parameters} == {
        name for name in component.new_parameters if name.endswith("bias")
    }
    size = 3 * 25 + (24 * 25 if extra else 0)
    assert component.parameter_counts(model) == {"trainable": size, "kept": size, "exported": size}


def test_the_head_of_bert_base():
    with torch.device("meta"):
        model = BertForSequenceClassification(BertConfig(num_labels=2))
    component = NewModules(["classifier.weight", "classifier.bias"], 1e-3)
    assert component.parameter_counts(model)["trainable"] == 1_538


def test_rates(encoder, adapt):
    [head] = adapt(encoder(), head_learning_rate=0.25)
    assert head.learning_rate == 0.25
    [head] = adapt(encoder(), rate=0.125, head_learning_rate=0.25)
    assert head.learning_rate == 0.125


def test_a_parameter_that_nobody_trains_is_found_out(encoder, adapt):
    model = encoder()
    components = adapt(model)
    model.bert.pooler.dense.bias.requires_grad_(True)
    with pytest.raises(BertftError, match=r"not the trained parameters: \['bert\.pooler\.dense"):
        collect_param_groups(components, model)


def test_a_parameter_in_two_groups_is_found_out(encoder, adapt):
    model = encoder()
    components = adapt(model)
    with pytest.raises(BertftError, match="one parameter is in two groups"):
        collect_param_groups([*components, *components], model)


def test_matrices_decay_and_vectors_do_not():
    shapes = {"w": (2, 3), "norm": (3,), "scalar": (), "table": (4, 2), "cube": (2, 2, 2)}
    model = torch.nn.Module()
    for name, shape in shapes.items():
        model.register_parameter(name, torch.nn.Parameter(torch.zeros(shape)))
    groups = {
        group.name: [name for name, _ in group.parameters]
        for group in NewModules(shapes, 1.0).param_groups(model)
    }
    assert groups == {"head": ["w", "table", "cube"], "head/no_decay": ["norm", "scalar"]}
    (group,) = NewModules(["norm"], 1.0).param_groups(model)
    assert group.name == "head/no_decay"
