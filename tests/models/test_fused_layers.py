"""Hand-written layers against the modules that they replace: outputs and all gradients."""

from __future__ import annotations

import copy

import pytest
import torch

from bertft.config.method import MethodConfig
from bertft.config.method_components import low_rank, prefix
from bertft.methods import attach_components, build_components
from bertft.models import dropout
from bertft.models.attention import blockwise
from bertft.models.dropout import replace_dropout
from bertft.models.families import encoder_layers
from bertft.models.fused import attention, layer
from bertft.models.fused import low_rank as fused_low_rank
from bertft.models.runner import EncoderRunner

KINDS = ["bert", "roberta", "electra", "distilbert"]
LAYOUTS = ["unpadded", "packed", "padded"]
LENGTHS = {"unequal": [3, 9, 9, 17, 30, 31, 32], "equal": [7, 7, 7, 7]}
QUERY_AND_VALUE, ALL = ["query", "value"], ["all_linear"]
METHODS = {
    "lora": {"low_rank": {"targets": QUERY_AND_VALUE}},
    "rslora": {"low_rank": {"targets": ALL, "use_rslora": True}},
    "pissa": {"low_rank": {"targets": ["key", "ffn_out"], "start": "principal"}},
    "svd_lora": {"low_rank": {"targets": ALL, "kind": "svd_lora"}},
    "top": {"low_rank": {"targets": ["layer.2.attention.output.dense", "layer.2.output.dense"]}},
    "prefix": {"prefix": {"length": 5}},
    "svd_lora_prefix": {
        "low_rank": {"targets": ALL, "kind": "svd_lora"},
        "prefix": {"length": 5, "mlp": True},
    },
}
TOP_OF_DISTILBERT = ["layer.2.attention.out_lin", "layer.2.ffn.lin2"]
SETTINGS = {"low_rank": low_rank.LowRankConfig, "prefix": prefix.PrefixConfig}


def adapted(model, method, rate=0.0):
    """``model`` with a method whose updates are not 0, and a frozen base."""
    settings = copy.deepcopy(METHODS[method])
    if "low_rank" in settings:
        settings["low_rank"]["dropout"] = rate
        if method == "top" and model.config.model_type == "distilbert":
            settings["low_rank"]["targets"] = TOP_OF_DISTILBERT
    nodes = {name: SETTINGS[name](**values) for name, values in settings.items()}
    model.requires_grad_(False)
    head = [
        name
        for name, _ in model.named_parameters()
        if not name.startswith(f"{model.base_model_prefix}.")
    ]
    replace_dropout(model)
    components = build_components(MethodConfig(name="test", rank=3, **nodes))
    attach_components(components, model, head)
    torch.manual_seed(4)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "adapter" in name:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def results(model, rows, layout, level, fused):
    """Logits, loss and gradients; checks which layers were hand-written."""
    model = copy.deepcopy(model)
    runner = EncoderRunner(model, level, layout, fused_layers=fused)
    logits = runner(rows)
    loss = (logits * torch.linspace(-1, 1, logits.numel()).view_as(logits).to(logits)).sum()
    loss.backward()
    calls = [
        getattr(encoder_layer.forward, "fused_calls", 0) for encoder_layer in encoder_layers(model)
    ]
    assert calls == [int(fused)] * 3
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return logits.detach(), grads


def assert_same(model, rows, layout, level="sequence", rtol=1e-10, atol=1e-10):
    (logits, grads), (expected_logits, expected_grads) = (
        results(model, rows, layout, level, fused) for fused in (True, False)
    )
    torch.testing.assert_close(logits, expected_logits, rtol=rtol, atol=atol)
    assert grads.keys() == expected_grads.keys()
    assert any(("adapter" in name or "prefix" in name) for name in grads)
    for name, grad in grads.items():
        scale = expected_grads[name].abs().max().item()
        assert scale > 0 or ".adapter." in name, name
        torch.testing.assert_close(
            grad, expected_grads[name], rtol=rtol, atol=max(scale, 1e-3) * atol, msg=name
        )


@pytest.fixture
def masks_by_size(monkeypatch):
    """Dropout masks that depend on the number of elements alone, in both paths."""
    draw = dropout.draw_keep_mask

    def draw_by_size(shape, p, dtype):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch.Size(shape).numel())
            return draw(shape, p, dtype)

    for module in (dropout, blockwise, attention, layer, fused_low_rank):
        monkeypatch.setattr(module, "draw_keep_mask", draw_by_size)


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_fp64(encoder, batch, kind, method, layout, lengths):
    rows = batch(LENGTHS[lengths], kind in ("bert", "electra"))
    assert_same(adapted(encoder(kind), method).train(), rows, layout)


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
@pytest.mark.parametrize("level", ["token", "selected"])
def test_heads_of_tokens(encoder, batch, kind, level):
    """All tokens, or the selected ones of masked language modelling, in any order."""
    rows = batch(LENGTHS["unequal"], kind == "bert")
    if level == "selected":
        rows.selected_tokens = torch.tensor([70, 3, 4, 41, 12])
    for layout in LAYOUTS:
        assert_same(adapted(encoder(kind, "token"), "svd_lora").train(), rows, layout, "token")


@pytest.mark.parametrize("layout", ["unpadded", "packed"])
@pytest.mark.parametrize("method", ["lora", "svd_lora_prefix"])
@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_dropout(encoder, batch, masks_by_size, kind, method, layout):
    """In attention, after products and in updates; one mask for query, key and value."""
    rows = batch(LENGTHS["unequal"], kind == "bert")
    # DistilBERT's modules select the tokens of the head later, after a mask of all of them.
    level = "sequence" if kind == "bert" else "token"
    model = adapted(encoder(kind, level, dropout=0.2), method, 0.3)
    assert_same(model.train(), rows, layout, level)


@pytest.mark.parametrize("rate", [0.0, 0.2])
@pytest.mark.parametrize("layout", ["unpadded", "packed"])
@pytest.mark.parametrize("method", ["lora", "svd_lora_prefix"])
def test_attention_in_blocks(encoder, batch, masks_by_size, monkeypatch, method, layout, rate):
    for module in (attention, blockwise):
        monkeypatch.setattr(module, "BLOCKWISE_MIN_PAIRS", 1)
    monkeypatch.setattr(blockwise, "_PAIRS_PER_BLOCK", 400)
    rows = batch(LENGTHS["unequal"])
    assert_same(adapted(encoder("bert", dropout=rate), method, rate).train(), rows, layout)


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("method", ["lora", "svd_lora_prefix"])
def test_padded_keys(encoder, batch, monkeypatch, method, layout, lengths):
    """Padding the keys to a multiple of a vector register does not change results."""
    monkeypatch.setitem(attention._KEY_MULTIPLES, torch.float64, 16)
    rows = batch(LENGTHS[lengths])
    assert_same(adapted(encoder("bert"), method).train(), rows, layout)
    monkeypatch.setattr(attention, "BLOCKWISE_MIN_PAIRS", 1)
    assert_same(adapted(encoder("bert"), method).train(), rows, layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("method", ["lora", "svd_lora_prefix"])
def test_fp32(encoder, batch, method, layout):
    rows = batch(LENGTHS["unequal"])
    model = adapted(encoder("bert"), method).float().train()
    assert_same(model, rows, layout, rtol=1e-5, atol=1e-5)


def test_bf16_is_as_close_to_fp32_as_the_modules(encoder, batch):
    """Both paths in bf16 against fp32: neither error may be far above the other."""
    rows = batch(LENGTHS["unequal"])
    model = adapted(encoder("bert"), "svd_lora").float().train()
    _, expected = results(model, rows, "unpadded", "sequence", False)
    for name, parameter in model.named_parameters():
        if "adapter" not in name and "classifier" not in name:
            parameter.data = parameter.data.bfloat16()
    model.classifier.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
    errors = []
    for fused in (True, False):
        _, grads = results(model, rows, "unpadded", "sequence", fused)
        differences = [grads[name] - expected[name] for name in expected]
        errors.append(sum(difference.norm() for difference in differences))
    assert 0.6 < errors[0] / errors[1] < 1.5, errors
