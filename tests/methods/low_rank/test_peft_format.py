"""peft itself reads what is written, and what peft wrote is read, for whole models in fp32."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
import transformers

from bertft.errors import DataError, UsageError
from bertft.methods.low_rank.peft_format import attach_peft, peft_config, peft_tensors
from bertft.methods.peft_format import PREFIX, copy_and_group_tensors, find_linear_layer

peft = pytest.importorskip("peft")

SIZES = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40,
    "vocab_size": 64, "max_position_embeddings": 20, "initializer_range": 0.3, "num_labels": 3,
}  # fmt: skip
DISTIL = {"dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 40, "vocab_size": 64}
OWN = {
    "bert": SIZES,
    "roberta": SIZES,
    "distilbert": {**DISTIL, "num_labels": 3, "initializer_range": 0.3},
    "modernbert": {**SIZES, "pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3,
                   "bos_token_id": 2, "eos_token_id": 3},
}  # fmt: skip
IDS = torch.randint(5, 64, (4, 9), generator=torch.Generator().manual_seed(3))
KINDS = {
    "lora": {},
    "rslora": {"use_rslora": True, "alpha": 7.0},
    "dora": {"use_dora": True},
    "pissa": {"start": "principal"},
    "svd_lora": {"kind": "svd_lora"},
}


def model_of(kind):
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **OWN[kind])
    return transformers.AutoModelForSequenceClassification.from_config(config).eval()


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits


def stirred(build_component, kind, changes):
    """A model with updates that are not 0; of svd_lora one is pruned to rank 1, one away."""
    model = model_of(kind)
    build_component(targets=["query", "value", "ffn_out"], **changes).attach(model)
    torch.manual_seed(5)
    with torch.no_grad():
        updates = [
            parameter for parameter in model.named_parameters() if ".adapter." in parameter[0]
        ]
        for _, triplet in updates:
            triplet.add_(0.2 * torch.randn_like(triplet))
        triplets = [parameter for name, parameter in updates if name.endswith(".E")]
        for triplet, left in zip(triplets, (0, 1), strict=False):
            triplet[left:] = 0.0
    return model.eval()


@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("kind", OWN)
def test_peft_gives_the_same_logits(build_component, kind, changes):
    ours = stirred(build_component, kind, changes)
    tensors = peft_tensors(ours)
    settings = peft_config(tensors)
    config = peft.LoraConfig(
        **{key: value for key, value in settings.items() if key != "peft_type"}
    )
    theirs = peft.get_peft_model(model_of(kind), config)
    outcome = peft.set_peft_model_state_dict(theirs, tensors)
    assert not outcome.unexpected_keys
    assert not [name for name in outcome.missing_keys if "lora" in name]
    expected = logits(ours)
    assert (expected - logits(model_of(kind))).abs().max() > 0.05
    assert (logits(theirs.eval()) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("kind", OWN)
def test_triplets_pruned_away_are_left_out(build_component, kind):
    tensors = peft_tensors(stirred(build_component, kind, KINDS["svd_lora"]))
    settings = peft_config(tensors)
    # Of ModernBERT's fused matrix, query's triplets are gone and one of value's is left.
    assert len(settings["target_modules"]) == (4 if kind == "modernbert" else 5)
    ranks = sorted(tensor.shape[0] for name, tensor in tensors.items() if "lora_A" in name)
    assert ranks[0] == 1 and settings["r"] in ranks
    assert 1 in settings["rank_pattern"].values()
    assert settings["rank_pattern"] == settings["alpha_pattern"]


@pytest.mark.parametrize("changes", [
    {}, {"use_rslora": True}, {"use_dora": True}, {"bias": "all"},
    {"rank_pattern": {"layer.0.attention.self.query": 5}, "alpha_pattern": {"value": 3}},
])  # fmt: skip
def test_what_peft_trained_gives_the_same_logits_here(changes):
    base = model_of("bert")
    config = peft.LoraConfig(
        task_type="SEQ_CLS", r=3, lora_alpha=8, target_modules=["query", "value"], **changes
    )
    theirs = peft.get_peft_model(copy.deepcopy(base), config).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in theirs.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn_like(parameter))
    content = {**config.to_dict(), "peft_type": "LORA"}
    count = attach_peft(base, content, peft.get_peft_model_state_dict(theirs))
    assert count == 4
    assert (logits(base) - logits(theirs)).abs().max() < 1e-5
    assert (logits(base) - logits(model_of("bert"))).abs().max() > 0.05


def adapter(**changes):
    tensors = {
        "base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight": torch.zeros(
            2, 24
        ),
        "base_model.model.bert.encoder.layer.0.attention.self.query.lora_B.weight": torch.zeros(
            24, 2
        ),
    }
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, **changes}
    return SimpleNamespace(settings=settings, tensors=tensors)


@pytest.mark.parametrize(("changes", "words"), [
    ({"peft_type": "OFT"}, "peft_type OFT are not supported"),
    ({"init_lora_weights": "pissa"}, "changed the base weights"),
    ({"fan_in_fan_out": True}, "fan_in_fan_out"),
    ({"layer_replication": [[0, 1]]}, "layer_replication"),
    ({"lora_alpha": 10**400}, "invalid value for 'lora_alpha'"),
    ({"lora_alpha": 1e308}, "updates would be scaled"),
    ({"alpha_pattern": {r"(\w+\.?)+!": 3}}, "too complex"),  # would search for years
    ({"alpha_pattern": {r".*.*.*.*!": 3}}, "too complex"),
    ({"alpha_pattern": {str(n): 3 for n in range(5_001)}}, "5,001 patterns; at most 5,000"),
    ({"alpha_pattern": {"(": 3}}, "invalid value for 'lora_alpha' or 'alpha_pattern'"),
])  # fmt: skip
def test_other_adapters_are_refused(changes, words):
    one = adapter(**changes)
    with pytest.raises(DataError, match=words):
        attach_peft(model_of("bert"), one.settings, one.tensors)


@pytest.mark.parametrize(("old", "new", "words"), [
    ("query", "querry", "no linear layer"),
    ("lora_A.weight", "lora_C.weight", "the model has no"),
    ("lora_A.weight", None, "has no lora_A"),
    ("lora_B.weight", None, "do not fit"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(old, new, words):
    one = adapter()
    tensors = {
        name if new is None else name.replace(old, new): tensor
        for name, tensor in one.tensors.items()
        if new is not None or old not in name
    }
    with pytest.raises(DataError, match=words):
        attach_peft(model_of("bert"), one.settings, tensors)


@pytest.mark.parametrize("shape", [(), (24,), (2, 3, 24), (0, 24)])
def test_an_update_that_is_no_matrix_is_refused(shape):
    one = adapter()
    first = next(name for name in one.tensors if "lora_A" in name)
    with pytest.raises(DataError):
        attach_peft(model_of("bert"), one.settings, {**one.tensors, first: torch.zeros(shape)})


def test_a_method_without_updates_is_refused():
    with pytest.raises(UsageError, match="every low-rank update was pruned"):
        peft_tensors(model_of("bert"))


@pytest.mark.parametrize("name", ["module.query.lora_A.weight", "module.classifier.weight"])
def test_a_wrapped_model_s_names_are_explained(name):
    model = torch.nn.ModuleDict({"query": torch.nn.Linear(3, 3)})

    def read_adapter():
        for path in copy_and_group_tensors(model, {PREFIX + name: torch.zeros(2, 3)}, "lora_[AB]"):
            find_linear_layer(model, path)

    with pytest.raises(DataError, match="DistributedDataParallel"):
        read_adapter()
