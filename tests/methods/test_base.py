"""What of the base trains, in every architecture, and how much that is of bert-base."""

from __future__ import annotations

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertModel

from bertft.errors import UsageError
from bertft.methods import collect_param_groups

KINDS = [
    "bert", "roberta", "distilbert", "electra", "modernbert", "albert", "deberta-v2", "mpnet",
    "rembert",
]  # fmt: skip
# Where the layers lie, and what lies above them in the base.
LAYERS = {
    "bert": ("bert.encoder.layer", ["bert.pooler"]),
    "roberta": ("roberta.encoder.layer", []),
    "distilbert": ("distilbert.transformer.layer", []),
    "electra": ("electra.encoder.layer", []),
    "modernbert": ("model.layers", ["model.final_norm"]),
    "deberta-v2": ("deberta.encoder.layer", []),
    "mpnet": ("mpnet.encoder.layer", []),
    "rembert": ("rembert.encoder.layer", ["rembert.pooler"]),
}


def trained(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def names(model):
    return {name for name, _ in model.named_parameters()}


def head_of(model):
    return {name for name in names(model) if not name.startswith(f"{model.base_model_prefix}.")}


@pytest.mark.parametrize("kind", KINDS)
def test_everything(encoder, adapt, kind):
    model = encoder(kind)
    head, base = adapt(model, base={"train": "everything"})
    assert trained(model) == names(model)
    assert base.trains_base and not head.trains_base
    collect_param_groups([head, base], model)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing(encoder, adapt, kind):
    model = encoder(kind)
    _, base = adapt(model, base={"train": "nothing"})
    assert trained(model) == head_of(model) and not base.trains_base


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "modernbert"])
def test_biases(encoder, adapt, kind):
    model = encoder(kind)
    components = adapt(model, base={"train": "biases"})
    expected = {name for name in names(model) - head_of(model) if name.endswith(".bias")}
    assert trained(model) - head_of(model) == expected
    assert len(expected) > 8 and not any("weight" in name for name in expected)
    actual = [
        group for group in collect_param_groups(components, model) if group.name.startswith("base")
    ]
    assert [(group.name, group.use_weight_decay) for group in actual] == [("base/no_decay", False)]


def test_an_encoder_without_biases_is_refused(encoder, adapt):
    """Else the head alone would train, under the name of bitfit."""
    with pytest.raises(UsageError, match=r"method\.base\.train: a modernbert model has no biases"):
        adapt(encoder("modernbert"), base={"train": "biases"})
    model = encoder("modernbert", attention_bias=True)
    adapt(model, base={"train": "biases"})
    assert "model.layers.0.attn.Wqkv.bias" in trained(model)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_top_layers_and_what_lies_above(encoder, adapt, kind, count):
    """Not what the layers share: relative positions, projections below, DeBERTa's convolution."""
    model = encoder(kind)
    components = adapt(model, base={"train": "last_k", "last_k": count})
    path, above = LAYERS[kind]
    starts = [f"{path}.{number}." for number in range(3 - count, 3)]
    starts += [f"{path}." for path in above]
    expected = {name for name in names(model) if name.startswith(tuple(starts))}
    assert all(any(name.startswith(start) for name in expected) for start in starts)
    assert trained(model) == expected | head_of(model)
    collect_param_groups(components, model)


def test_the_top_layers_below_a_masked_lm_head(encoder, adapt):
    """Its decoder is the word embeddings, which stay frozen."""
    model = encoder("bert", "MaskedLM")
    adapt(model, base={"train": "last_k", "last_k": 1})
    assert "bert.embeddings.word_embeddings.weight" not in trained(model)
    assert {name for name in trained(model) if "encoder" in name} == {
        name for name in names(model) if ".layer.2." in name
    }


def test_more_layers_than_there_are(encoder, adapt):
    with pytest.raises(UsageError) as caught:
        adapt(encoder(), base={"train": "last_k", "last_k": 4})
    assert str(caught.value) == (
        "method.base.last_k: the model has 3 layers, fewer than 4. Set it to 3 or less"
    )


def test_layers_that_are_one_are_refused(encoder, adapt):
    with pytest.raises(UsageError, match="a albert model cannot be trained separately"):
        adapt(encoder("albert"), base={"train": "last_k", "last_k": 1})


def test_what_is_new_stays_in_the_heads_group(encoder, adapt):
    model = encoder()
    new = ["classifier.weight", "classifier.bias", "bert.pooler.dense.weight"]
    components = adapt(model, new=new, base={"train": "last_k", "last_k": 1, "learning_rate": 0.25})
    actual = {group.name: group for group in collect_param_groups(components, model)}
    assert {name for name, _ in actual["head"].parameters} == {new[0], new[2]}
    assert "bert.pooler.dense.bias" in {name for name, _ in actual["base/no_decay"].parameters}
    assert actual["base"].learning_rate == 0.25 and actual["base"].use_weight_decay


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "albert"])
def test_layers_below_have_decayed_rates(encoder, adapt, kind):
    model = encoder(kind)
    settings = {"train": "everything", "learning_rate": 0.8, "layer_decay": 0.5}
    groups = collect_param_groups(adapt(model, base=settings), model)
    rates = {name: group.learning_rate for group in groups for name, _ in group.parameters}
    path, above = LAYERS[kind]
    for name in names(model) - head_of(model):
        expected = 0.1  # the embeddings, and what the layers share
        for depth, rate in enumerate((0.8, 0.4, 0.2)):
            if name.startswith(f"{path}.{2 - depth}."):
                expected = rate
        if name.startswith(tuple(f"{start}." for start in above)):
            expected = 0.8
        assert rates[name] == expected, name
    by_name = {group.name: group for group in groups}
    assert {"base/no_decay", "base_below_1", "base_below_3/no_decay"} <= by_name.keys()
    assert not by_name["base_below_3/no_decay"].use_weight_decay


def test_layers_that_are_one_have_one_rate(encoder, adapt):
    with pytest.raises(UsageError, match=r"method\.base\.layer_decay: .*share weights"):
        adapt(encoder("albert"), base={"layer_decay": 0.9})


def test_one_rate_for_all(encoder, adapt):
    assert [component.learning_rate for component in adapt(encoder(), rate=0.5, base={})] == [
        0.5,
        0.5,
    ]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"train": "everything"}, 109_482_240),
        ({"train": "biases"}, 102_912),
        ({"train": "last_k", "last_k": 2}, 2 * 7_087_872 + 590_592),
        ({"train": "last_k", "last_k": 12}, 12 * 7_087_872 + 590_592),
        ({"train": "nothing"}, 0),
    ],
)
def test_counts_of_bert_base(adapt, settings, expected):
    with torch.device("meta"):
        model = BertForSequenceClassification(BertConfig(num_labels=2))
        assert (
            sum(parameter.numel() for parameter in BertModel(BertConfig()).parameters())
            == 109_482_240
        )
    _, base = adapt(model, base=settings)
    assert base.parameter_counts(model) == {
        "trainable": expected, "kept": expected, "exported": expected
    }  # fmt: skip
