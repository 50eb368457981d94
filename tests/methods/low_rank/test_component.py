"""What a configuration makes: starts, groups, counts."""

from __future__ import annotations

import pytest
import torch
from transformers import AlbertConfig, AlbertModel, BertConfig, BertModel

from bertft.errors import UsageError
from bertft.methods.low_rank.fold import low_rank_layers


def updates(model):
    return [update for layer in low_rank_layers(model).values() for _, update in layer.updates()]


@pytest.mark.parametrize(
    ("changes", "rank", "scale"),
    [
        ({"kind": "lora", "alpha": 16.0}, 4, 4.0),
        ({"kind": "lora", "alpha": 16.0, "use_rslora": True}, 4, 8.0),
        ({"kind": "svd_lora", "alpha": 12.0}, 6, 2.0),
        ({"kind": "svd_lora", "alpha": 12.0, "use_rslora": True}, 6, 12 / 6**0.5),
        ({"kind": "svd_lora", "alpha": 12.0, "rank": 3}, 5, 12 / 5),
        ({"kind": "svd_lora", "alpha": 12.0, "initial_rank": 12}, 12, 1.0),
        ({"kind": "svd_lora", "alpha": 12.0, "adapt": False}, 4, 3.0),
        ({"kind": "svd_lora", "alpha": 12.0, "adapt": False, "initial_rank": 5}, 5, 12 / 5),
    ],
)
def test_rank_and_scale(bert, build_component, changes, rank, scale):
    model = bert()
    build_component(**changes).attach(model)
    assert {update.rank for update in updates(model)} == {rank}
    assert {update.A.shape for update in updates(model)} == {(rank, 24)}
    assert all(update.scale == pytest.approx(scale) for update in updates(model))


def test_starts(bert, build_component):
    model = bert()
    build_component(targets=["ffn_in"]).attach(model)
    for update in updates(model):
        bound = 1 / 24**0.5  # Kaiming-uniform with a = √5
        assert 0.8 * bound < update.A.abs().max() <= bound and (update.B == 0).all()
    model = bert()
    build_component(kind="svd_lora", targets=["ffn_in"], start="orthonormal").attach(model)
    identity = torch.eye(6, dtype=torch.float64)
    for update in updates(model):
        torch.testing.assert_close(update.A @ update.A.T, identity, rtol=0, atol=1e-12)
        torch.testing.assert_close(update.B.T @ update.B, identity, rtol=0, atol=1e-12)
        assert (update.E == 0).all()
    model = bert()
    build_component(kind="svd_lora", start="gaussian").attach(model)
    values = torch.cat([update.A.flatten() for update in updates(model)])
    assert values.std().item() == pytest.approx(0.02, rel=0.1)


def test_a_principal_start_is_the_best_approximation(bert, build_component):
    model = bert()
    build_component(start="principal", rank=3).attach(model)
    layer = model.get_submodule("bert.encoder.layer.0.attention.self.query")
    update = layer.adapter["query"]
    assert set(dict(layer.named_buffers())) == {"adapter.query.A0", "adapter.query.B0"}
    rest = layer.weight - update.scale * update.B @ update.A
    values = torch.linalg.svdvals(layer.weight)
    torch.testing.assert_close(torch.linalg.svdvals(rest)[:21], values[3:], rtol=0, atol=1e-10)
    assert "bert.encoder.layer.0.attention.self.query.adapter.query.A0" in model.state_dict()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"start": "principal", "rank": 25},
            "method.rank: the rank 25 is above 24, the highest that method.low_rank.start=principal"
            " supports in bert.encoder.layer.0.attention.self.query, a layer of 24 × 24."
            " Set it to 24 or less, or set method.low_rank.start=zero_b",
        ),
        (
            {"kind": "svd_lora", "rank": 17},
            "method.initial_rank: the initial rank 26 is above 24, the highest that"
            " method.low_rank.start=orthonormal supports in",
        ),
        (
            {"kind": "svd_lora", "rank": 17},
            "Set it to 24 or less (by default it is 1.5 × method.rank), or set"
            " method.low_rank.start=gaussian",
        ),
        (
            {"kind": "svd_lora", "rank": 25},
            "the initial rank 38 is above 24, the highest that method.low_rank.start=orthonormal",
        ),
        ({"kind": "svd_lora", "rank": 25}, "Set it and method.rank to 24 or less, or set"),
        (
            {"kind": "svd_lora", "rank": 65, "start": "gaussian"},
            "method.initial_rank: the initial rank 98 is too high for",
        ),
        ({"rank": 97}, "method.rank: the rank 97 is too high for"),
        ({"targets": ["querry"]}, "Did you mean 'query'"),
        ({"targets": "pooler.dense"}, "method.low_rank.targets: 'pooler.dense' matches no"),
    ],
)
def test_what_cannot_be(bert, build_component, changes, message):
    model = bert()
    with pytest.raises(UsageError) as caught:
        build_component(**changes).attach(model)
    assert message in str(caught.value)
    assert not low_rank_layers(model), "refused before anything changed"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"low_rank": ("AB", 2e-3, True)}),
        ({"rate": 0.5}, {"low_rank": ("AB", 0.5, True)}),
        (
            {"b_rate_ratio": 4.0, "rate": 0.5},
            {"low_rank": ("A", 0.5, True), "low_rank_b": ("B", 2.0, True)},
        ),
        (
            {"use_dora": True},
            {
                "low_rank": ("AB", 2e-3, True),
                "low_rank/no_decay": (("magnitude",), 2e-3, False),
            },
        ),
        (
            {"kind": "svd_lora", "learning_rate": 0.5, "b_rate_ratio": 2.0, "e_rate_ratio": 3.0},
            {
                "low_rank": ("A", 0.5, True),
                "low_rank_b": ("B", 1.0, True),
                "low_rank_e/no_decay": ("E", 1.5, False),
            },
        ),
    ],
)
def test_groups(bert, build_component, changes, expected):
    model = bert()
    made = build_component(**changes)
    made.attach(model)
    named = dict(model.named_parameters())
    groups = {group.name: group for group in made.param_groups(model)}
    seen = []
    for name, (letters, rate, decay) in expected.items():
        group = groups.pop(name)
        assert (group.learning_rate, group.use_weight_decay) == (rate, decay)
        assert {name.rpartition(".")[2] for name, _ in group.parameters} == set(letters)
        assert all(named[name] is parameter for name, parameter in group.parameters)
        seen += [name for name, _ in group.parameters]
    assert not groups
    assert sorted(seen) == sorted(name for name in named if ".adapter." in name)


@pytest.fixture
def bert_base() -> BertModel:
    with torch.device("meta"):
        return BertModel(BertConfig())


@pytest.mark.parametrize(
    ("changes", "trainable", "saved", "exported"),
    [
        ({}, 294_912, 294_912, 294_912),
        ({"targets": ["all_linear"]}, 1_327_104, 1_327_104, 1_327_104),
        ({"start": "principal"}, 294_912, 294_912, 589_824),
        ({"use_dora": True}, 313_344, 313_344, 313_344),
        ({"kind": "svd_lora"}, 442_656, 295_104, 294_912),
        ({"kind": "svd_lora", "rank": 5}, 24 * 8 * 1537, 184_440, 184_320),
        ({"kind": "svd_lora", "adapt": False}, 295_104, 295_104, 294_912),
    ],
)
def test_counts_of_bert_base(bert_base, build_component, changes, trainable, saved, exported):
    made = build_component(**{"rank": 8, **changes})
    made.attach(bert_base)
    counts = [
        parameter.numel() for name, parameter in bert_base.named_parameters() if ".adapter." in name
    ]
    assert sum(counts) == trainable
    assert made.parameter_counts(bert_base) == {
        "trainable": trainable, "kept": saved, "exported": exported
    }  # fmt: skip


def test_counts_follow_the_triplets_that_are_left(bert, build_component):
    model = bert()
    made = build_component(kind="svd_lora", targets=["query", "ffn_in"])
    made.attach(model)
    assert made.parameter_counts(model)["kept"] == 2 * 4 * (49 + 65), "what the budget will keep"
    with torch.no_grad():
        model.get_parameter("bert.encoder.layer.1.intermediate.dense.adapter.ffn_in.E")[2] = 1.0
        model.get_parameter("bert.encoder.layer.0.attention.self.query.adapter.query.E")[:3] = -1.0
    assert made.parameter_counts(model)["kept"] == 65 + 3 * 49
    assert made.parameter_counts(model)["exported"] == 64 + 3 * 48


def test_layers_that_share_a_module_share_its_update(build_component):
    torch.manual_seed(0)
    config = AlbertConfig(
        hidden_size=24, embedding_size=8, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=40, vocab_size=64,
    )  # fmt: skip
    model = AlbertModel(config)
    made = build_component(targets=["query", "ffn_out"])
    made.attach(model)
    assert made.parameter_counts(model)["trainable"] == 4 * (24 + 24) + 4 * (24 + 40)


def test_a_linear_layer_in_two_places_is_replaced_in_both(bert, build_component):
    model = bert()
    first, second = (layer.attention.self for layer in model.bert.encoder.layer)
    second.query = first.query
    build_component(targets=["query"]).attach(model)
    assert second.query is first.query and second.query in low_rank_layers(model).values()


def test_losses_and_measures(bert, build_component):
    model = bert()
    lora = build_component()
    lora.attach(model)
    assert lora.extra_loss() is None and lora.metrics() == {} and lora.is_eligible(1, 10)
    assert lora.state_dict() == {}
    model = bert()
    svd = build_component(kind="svd_lora", start="gaussian", l1=0.5)
    svd.attach(model)
    assert svd.metrics() == {"budget": 24.0, "mean_rank": 6.0}
    loss = svd.extra_loss()
    readings = svd.device_metrics()
    assert svd.metrics() == {"budget": 24.0, "mean_rank": 6.0}
    assert readings.keys() == {"orthogonality", "l1"} and lora.device_metrics() == {}
    assert loss.item() == pytest.approx(0.1 * readings["orthogonality"].item())
    assert build_component(kind="svd_lora", orthogonality=0.0).extra_loss() is None
