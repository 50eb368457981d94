from __future__ import annotations

import re

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from bertft.errors import UsageError
from bertft.models import linear_layers
from bertft.models.linear_layers import ROLES

SMALL = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 40,
    "vocab_size": 50,
}
EXTRA = {
    "distilbert": {"vocab_size": 50, "dim": 24, "n_layers": 2, "n_heads": 2, "hidden_dim": 40},
    "albert": {**SMALL, "embedding_size": 16},
    "electra": {**SMALL, "embedding_size": 16},
    "rembert": {
        **SMALL, "input_embedding_size": 16, "output_embedding_size": 16,
        "bos_token_id": 1, "eos_token_id": 2,
    },
    "deberta-v2": {**SMALL, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "modernbert": {
        **SMALL, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1,
        "sep_token_id": 2,
    },
}  # fmt: skip
BERT = (
    "layer.#.attention.self.query", "layer.#.attention.self.key",
    "layer.#.attention.self.value", "layer.#.attention.output.dense",
    "layer.#.intermediate.dense", "layer.#.output.dense",
)  # fmt: skip
LAYERS = {
    **dict.fromkeys(["bert", "roberta", "xlm-roberta", "camembert", "electra", "rembert"], BERT),
    "distilbert": (
        "layer.#.attention.q_lin", "layer.#.attention.k_lin", "layer.#.attention.v_lin",
        "layer.#.attention.out_lin", "layer.#.ffn.lin1", "layer.#.ffn.lin2",
    ),
    "albert": (
        "albert_layers.#.attention.query", "albert_layers.#.attention.key",
        "albert_layers.#.attention.value", "albert_layers.#.attention.dense",
        "albert_layers.#.ffn", "albert_layers.#.ffn_output",
    ),
    "deberta-v2": (
        "layer.#.attention.self.query_proj", "layer.#.attention.self.key_proj",
        "layer.#.attention.self.value_proj", *BERT[3:],
    ),
    "mpnet": (
        "layer.#.attention.attn.q", "layer.#.attention.attn.k", "layer.#.attention.attn.v",
        "layer.#.attention.attn.o", *BERT[4:],
    ),
    "modernbert": (
        "layers.#.attn.Wqkv", "layers.#.attn.Wqkv", "layers.#.attn.Wqkv", "layers.#.attn.Wo",
        "layers.#.mlp.Wi", "layers.#.mlp.Wo",
    ),
    "nomic_bert": (
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
        "mlp.gate_proj|mlp.up_proj", "mlp.down_proj",
    ),
}  # fmt: skip


def find_targets(model: nn.Module, names: list[str]) -> list[linear_layers.TargetLayer]:
    return linear_layers.find_target_layers(model, names, "method.low_rank.targets")


def encoder(kind: str, **changes) -> nn.Module:
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **{**EXTRA.get(kind, SMALL), **changes})
    return AutoModelForSequenceClassification.from_config(config)


@pytest.mark.parametrize("kind", LAYERS)
def test_roles_of_an_architecture(kind):
    model = encoder(kind)
    for role, ends in zip(ROLES, LAYERS[kind], strict=True):
        targets = find_targets(model, [role])
        several = ends.split("|")
        # ALBERT's layers are one module.
        assert len(targets) == len(several) * (1 if kind == "albert" else 2)
        assert {target.role for target in targets} == {role}
        for number, target in enumerate(targets):
            end = several[number % len(several)]
            assert re.sub(r"\.\d+\.", ".#.", target.path).endswith(end)
            assert model.get_submodule(target.path) is target.module


@pytest.mark.parametrize("kind", LAYERS)
def test_all_linear_leaves_head_pooler_and_embeddings_alone(kind):
    model = encoder(kind)
    paths = {target.path for target in find_targets(model, ["all_linear"])}
    left = {
        path for path, module in model.named_modules()
        if isinstance(module, nn.Linear) and path not in paths
    }  # fmt: skip
    outside = ("classifier", "pooler", "pre_classifier", "head", "embeddings_project", "embedding_")
    assert all(any(word in path for word in outside) for path in left)
    assert not any(any(word in path for word in outside) for path in paths)
    named = {target.path for target in find_targets(model, list(ROLES))}
    assert named <= paths
    extra = {path.rpartition(".")[2] for path in paths - named}
    assert extra == ({"pos_key_proj", "pos_query_proj"} if kind == "deberta-v2" else set())


def test_all_linear_of_bert_base_has_72_layers():
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model("bert"))
    targets = find_targets(model, ["all_linear"])
    assert len(targets) == 72
    updates = sum(8 * sum(target.module.weight.shape) for target in targets)
    assert updates == 1_327_104
    pooler = model.get_submodule("bert.pooler.dense").weight
    assert updates + 8 * sum(pooler.shape) == 1_339_392, "what peft counts, the pooler wrapped too"


def test_a_fused_matrix_is_cut_in_thirds():
    model = encoder("modernbert")
    targets = find_targets(model, ["value", "query"])
    assert [(target.path, target.role, target.rows) for target in targets] == [
        (f"model.layers.{layer}.attn.Wqkv", role, rows)
        for layer in (0, 1)
        for role, rows in (("query", slice(0, 24)), ("value", slice(48, 72)))
    ]


def test_a_whole_fused_matrix_swallows_its_slices():
    model = encoder("modernbert")
    for names in (["query", "Wqkv"], ["Wqkv", "query"], ["all_linear", "query"]):
        targets = [target for target in find_targets(model, names) if target.path.endswith("Wqkv")]
        assert [(target.role, target.rows) for target in targets] == [("linear", None)] * 2


def test_a_name_ends_at_a_dot():
    model = encoder("bert", num_hidden_layers=12)
    actual = [target.path for target in find_targets(model, ["layer.1.output.dense"])]
    assert actual == ["bert.encoder.layer.1.output.dense"]
    actual = find_targets(model, ["bert.encoder.layer.11.attention.self.query"])
    assert [(target.path, target.role) for target in actual] == [
        ("bert.encoder.layer.11.attention.self.query", "query")
    ]
    assert len(find_targets(model, ["layer.2.attention.self.key", "key"])) == 12
    assert len(find_targets(model, ["dense"])) == 36, "the pooler's dense is not the encoder's"


def test_a_bare_encoder_has_the_same_targets():
    model = encoder("roberta")
    inner = [target.path for target in find_targets(model.roberta, ["query", "ffn_out"])]
    outer = [target.path for target in find_targets(model, ["query", "ffn_out"])]
    assert [f"roberta.{path}" for path in inner] == outer


def test_layers_nobody_knows_go_by_name():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList(
                nn.ModuleDict({"mix": nn.Linear(4, 4), "query": nn.Linear(4, 4)}) for _ in range(2)
            )
            self.out = nn.Linear(4, 2)

    model = Odd()
    assert [target.path for target in find_targets(model, ["mix"])] == [
        "blocks.0.mix",
        "blocks.1.mix",
    ]
    assert [target.role for target in find_targets(model, ["query"])] == ["linear"] * 2
    with pytest.raises(UsageError) as caught:
        find_targets(model, ["query", "ffn_in"])
    assert str(caught.value) == (
        "method.low_rank.targets: 'ffn_in' matches no linear layer of this model"
        " (last parts of their names: mix, query). Roles are not known for this model"
    )
    with pytest.raises(UsageError, match="no linear layers in its encoder layers"):
        find_targets(nn.Linear(3, 3), ["query"])


def test_a_misspelt_role_is_named():
    with pytest.raises(UsageError) as caught:
        find_targets(encoder("bert"), ["query", "vaule"])
    assert caught.value.where == "method.low_rank.targets"
    assert "'vaule' matches no linear layer" in str(caught.value)
    assert "dense, key, query, value" in str(caught.value)
    assert caught.value.hint == "Did you mean 'value'?"
    with pytest.raises(UsageError, match="Roles: query, key, value, attention_output, ffn_in"):
        find_targets(encoder("bert"), ["classifier"])


def test_a_layer_whose_forward_is_not_known_is_left_alone():
    layer = nn.TransformerEncoderLayer(8, 2)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    assert {target.path.rpartition(".")[2] for target in find_targets(model, ["all_linear"])} == {
        "linear1", "linear2"
    }  # fmt: skip
