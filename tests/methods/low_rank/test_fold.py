from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from bertft.errors import BertftError
from bertft.methods.low_rank.fold import dora_magnitudes, scaled_factors_by_layer
from bertft.methods.low_rank.lora import LowRankLinear

KINDS = [
    {},
    {"start": "principal"},
    {"use_dora": True},
    {"use_dora": True, "start": "principal", "use_rslora": True},
    {"kind": "svd_lora"},
]


def pruned(model) -> None:
    """Every second triplet, and all of one layer."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".E"):
                parameter[::2] = 0.0
                if "layer.1.attention.self.query" in name:
                    parameter.zero_()


def trained(bert, build_component, stir, changes, dtype=torch.float64):
    model = bert(dtype=dtype)
    made = build_component(targets=["query", "value", "ffn_out"], dropout=0.2, **changes)
    made.attach(model)
    stir(model)
    pruned(model)
    return model.eval(), made


@pytest.mark.parametrize("changes", KINDS)
@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_folded_equals_adapted(bert, build_component, stir, logits, changes, dtype, error):
    model, made = trained(bert, build_component, stir, changes, dtype)
    plain = bert(dtype=dtype)
    before, start = logits(model), logits(plain)
    weight = model.get_submodule("bert.encoder.layer.0.attention.self.value").weight
    assert made.fold(model) == 6
    assert (logits(model) - before).abs().max() < error
    assert (before - start).abs().max() > 0.1
    assert not any(isinstance(module, LowRankLinear) for module in model.modules())
    assert model.state_dict().keys() == plain.state_dict().keys()
    layer = model.get_submodule("bert.encoder.layer.0.attention.self.value")
    assert type(layer) is nn.Linear and layer.weight is weight and not layer.training
    assert layer.weight.dtype == dtype and not layer.weight.requires_grad
    plain.load_state_dict(model.state_dict())
    assert torch.equal(logits(plain), logits(model))
    assert made.fold(model) == 0


def test_a_copy_can_be_folded(bert, build_component, stir, logits):
    model, made = trained(bert, build_component, stir, {})
    before = logits(model)
    made.fold(copy.deepcopy(model))
    assert torch.equal(logits(model), before)


def test_half_precision_is_refused_before_anything_changes(bert, build_component, stir, logits):
    model, made = trained(bert, build_component, stir, {}, torch.float32)
    before = copy.deepcopy(model.state_dict())
    layer = model.get_submodule("bert.encoder.layer.1.attention.self.value")
    layer.weight.data = layer.weight.data.bfloat16()
    with pytest.raises(BertftError) as caught:
        made.fold(model)
    assert caught.value.where == "bert.encoder.layer.1.attention.self.value"
    assert "bfloat16" in caught.value.what and "fp32" in caught.value.hint
    layer.weight.data = layer.weight.data.float()
    for name, tensor in model.state_dict().items():
        if "layer.1.attention.self.value.weight" not in name:
            assert torch.equal(tensor, before[name])


@pytest.mark.parametrize("changes", KINDS)
def test_factors_are_the_update(bert, build_component, stir, changes):
    model, made = trained(bert, build_component, stir, changes)
    factors, magnitudes = scaled_factors_by_layer(model), dora_magnitudes(model)
    gone = "bert.encoder.layer.1.attention.self.query"
    assert len(factors) == (5 if "kind" in changes else 6)
    assert (gone in factors) != ("kind" in changes), "no triplet left, no entry"
    weights = {path: model.get_submodule(path).weight.clone() for path in factors}
    made.fold(model)
    for path, parts in factors.items():
        ((rows, down, up),) = parts
        assert rows is None
        rank = {"svd_lora": 3}.get(changes.get("kind"), 8 if "start" in changes else 4)
        assert len(down) == rank == up.shape[1]
        expected = weights[path] + up @ down
        if "use_dora" in changes:
            ((_, magnitude),) = magnitudes[path]
            expected *= (magnitude / expected.norm(dim=1))[:, None]
        torch.testing.assert_close(
            model.get_submodule(path).weight.detach(), expected, rtol=0, atol=1e-13
        )
    assert (len(magnitudes) == 6) == ("use_dora" in changes)


def test_kept_and_exported_are_what_factors_hold(bert, build_component, stir):
    model, made = trained(bert, build_component, stir, {"kind": "svd_lora"})
    factors_of_updates = [
        factors for layer in scaled_factors_by_layer(model).values() for factors in layer
    ]
    numbers = sum(down.numel() + up.numel() for _, down, up in factors_of_updates)
    counts = made.parameter_counts(model)
    assert counts["exported"] == numbers
    assert counts["kept"] == numbers + sum(len(down) for _, down, _ in factors_of_updates)


def test_slices_of_a_fused_matrix(build_component, stir):
    from transformers import ModernBertConfig, ModernBertModel

    torch.manual_seed(0)
    config = ModernBertConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        vocab_size=64, pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1,
        sep_token_id=2,
    )  # fmt: skip
    model = ModernBertModel(config).double().eval()
    made = build_component(targets=["query", "value"])
    made.attach(model)
    stir(model)
    ids = torch.arange(3, 12)[None]
    before = model(ids).last_hidden_state
    weight = model.layers[0].attn.Wqkv.weight.clone()
    parts, _ = scaled_factors_by_layer(model).values()
    assert [rows for rows, _, _ in parts] == [slice(0, 16), slice(32, 48)]
    assert made.fold(model) == 2
    moved = model.layers[0].attn.Wqkv.weight - weight
    assert (moved[16:32] == 0).all()
    for rows, down, up in parts:
        torch.testing.assert_close(moved[rows], up @ down, rtol=0, atol=1e-14)
    assert (model(ids).last_hidden_state - before).abs().max() < 1e-12
