"""The head of a base answers for the classes of the task, by name."""

from __future__ import annotations

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertModel

from bertft.config.model import ModelConfig
from bertft.models.head import align_head, reorder_outputs
from bertft.models.loading import head_parameters, load_config, load_model
from bertft.tasks.shared.sequence_task import classification_head_config

AUTO = "AutoModelForSequenceClassification"
SIZES = {
    "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 40,
    "vocab_size": 60, "max_position_embeddings": 64,
}  # fmt: skip
IDS = torch.arange(5, 15)[None]


def saved(folder, names):
    torch.manual_seed(0)
    config = BertConfig(**SIZES, id2label=dict(enumerate(names)), initializer_range=0.5)
    model = BertForSequenceClassification(config).eval()
    torch.nn.init.normal_(model.classifier.bias)
    model.save_pretrained(folder)
    return model


def logits(model):
    """In fp64, where rows of a product in another order differ by less than the ten digits kept."""
    with torch.no_grad():
        return [round(logit, 10) for logit in model.eval().double()(IDS).logits[0].tolist()]


def aligned(folder, output_names, names):
    settings = ModelConfig(name="base", path=str(folder))
    config, source = load_config(
        settings, None, classification_head_config(names, "single_label_classification")
    )
    torch.manual_seed(1)
    loaded = load_model(settings, config, source, AUTO)
    return loaded.model, align_head(loaded, output_names, names)


@pytest.mark.parametrize(
    ("output_names", "names", "note"),
    [
        (["pos", "neg"], ["pos", "neg"], "for the same classes: pos, neg"),
        (["pos", "neg"], ["neg", "pos"], "in another order (pos, neg): its outputs are reordered"),
        (["b", "c", "a"], ["a", "b", "c"], "reordered"),
        (["LABEL_0", "LABEL_1"], ["1", "0"], "reordered"),
    ],
)
def test_outputs_are_found_by_name(tmp_path, output_names, names, note):
    before = dict(zip(output_names, logits(saved(tmp_path, output_names)), strict=True))
    model, result = aligned(tmp_path, output_names, names)
    assert note in result
    after = dict(zip(names, logits(model), strict=True))
    expected = {name.removeprefix("LABEL_"): value for name, value in before.items()}
    assert after == pytest.approx(expected, abs=1e-5)  # sums in another order
    assert [model.config.id2label[number] for number in range(len(names))] == names


@pytest.mark.parametrize("output_names", [["LABEL_0", "LABEL_1"], ["0", "1"], ["0.0", "1e0"]])
def test_outputs_are_found_by_number(tmp_path, output_names):
    before = logits(saved(tmp_path, output_names))
    model, result = aligned(tmp_path, output_names, ["1.0", "0.0"])
    assert "reordered" in result and logits(model) == pytest.approx(before[::-1], abs=1e-5)
    assert reorder_outputs(model, ["1.0", "0.0"], ["0", "1"])
    assert logits(model) == pytest.approx(before, abs=1e-5)
    assert not reorder_outputs(model, ["0", "1"], ["0", "0.0"])


@pytest.mark.parametrize(
    ("output_names", "names", "note"),
    [
        (
            ["pos", "neg"],
            ["good", "bad"],
            "for pos, neg, not for good, bad: the output layer is newly initialized",
        ),
        (["LABEL_0", "LABEL_1"], ["neg", "pos"], "the output layer is newly initialized"),
        (
            ["a", "b", "c"],
            ["a", "b"],
            "has 3 outputs, the task has 2 classes: the output layer",
        ),
    ],
)
def test_a_head_for_other_classes_is_new(tmp_path, output_names, names, note):
    before = saved(tmp_path, output_names).classifier.weight
    model, result = aligned(tmp_path, output_names, names)
    assert note in result
    weight = model.classifier.weight.detach()
    assert weight.std() < 0.7 and not torch.isin(weight, before).any()
    assert model.classifier.bias.tolist() == [0.0] * len(names)
    again, _ = aligned(tmp_path, output_names, names)
    torch.testing.assert_close(again.classifier.weight, model.classifier.weight, rtol=0, atol=0)


def test_a_base_without_a_head_is_not_remarked(tmp_path):
    BertModel(BertConfig(**SIZES)).save_pretrained(tmp_path)
    assert aligned(tmp_path, ["LABEL_0", "LABEL_1"], ["0", "1"])[1] == ""


def test_a_head_for_a_number_is_kept(tmp_path):
    before = saved(tmp_path, ["score"])
    settings = ModelConfig(name="base", path=str(tmp_path))
    config, source = load_config(settings, None, {"num_labels": 1, "problem_type": "regression"})
    loaded = load_model(settings, config, source, AUTO)
    assert align_head(loaded, ["score"], None) == "the base has a regression head: it is kept"
    assert logits(loaded.model) == pytest.approx(logits(before), abs=1e-5)
    assert not set(loaded.initialized_parameters) & set(head_parameters(loaded.model))


def test_outputs_of_a_trained_model_are_reordered(tmp_path):
    model = saved(tmp_path, ["pos", "neg"])
    before = logits(model)
    assert not reorder_outputs(model, ["pos", "neg"], ["good", "bad"])
    assert logits(model) == before
    assert reorder_outputs(model, ["pos", "neg"], ["neg", "pos"])
    assert logits(model) == pytest.approx(before[::-1], abs=1e-5)
    assert model.config.id2label == {0: "neg", 1: "pos"}
