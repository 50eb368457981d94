"""The prefix against peft's, its two parameterisations against each other, and the prompt."""

from __future__ import annotations

import inspect

import peft
import pytest
import torch
import torch.nn.functional as F
from transformers import BertConfig, BertModel

from bertft.config.method_components.prefix import PrefixConfig
from bertft.errors import BertftError
from bertft.methods import collect_param_groups
from bertft.methods.prefix import PrefixVectors, build
from bertft.models.runner import EncoderRunner

LENGTHS = [4, 9, 9, 17]
LENGTH = 5


def attached(model, **changes):
    component = build(PrefixConfig(**{"length": LENGTH, **changes}), None, None)
    torch.manual_seed(3)
    component.attach(model)
    return component


def name_the_cache(encoder):
    """transformers 5.24 calls ``cache`` what peft 0.21 still passes as ``past_key_values``."""
    known = inspect.signature(encoder.forward).parameters
    if "past_key_values" in known or "cache" not in known:
        return
    forward = encoder.forward

    def renamed(*inputs, past_key_values=None, **others):
        return forward(*inputs, cache=past_key_values, **others)

    encoder.forward = renamed


def peft_prefix(model, mlp):
    name_the_cache(model.base_model)
    config = peft.PrefixTuningConfig(
        task_type="SEQ_CLS", num_virtual_tokens=LENGTH, prefix_projection=mlp,
        encoder_hidden_size=10,
    )  # fmt: skip
    return peft.get_peft_model(model, config).double().eval()


def padded(batch, pad):
    rows = batch.input_ids.split(batch.lengths.tolist())
    ids = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=pad)
    mask = torch.arange(ids.shape[1])[None] < batch.lengths[:, None]
    return {"input_ids": ids, "attention_mask": mask.long()}


@pytest.mark.parametrize("layout", ["unpadded", "padded"])
@pytest.mark.parametrize("mlp", [False, True])
@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_equals_pefts(encoder, batch, kind, mlp, layout):
    rows = batch(LENGTHS)
    model = encoder(kind)
    attached(model, mlp=mlp, mlp_hidden=10, shift_positions=True)
    reference = peft_prefix(encoder(kind), mlp)
    reference.base_model.set_attn_implementation("sdpa")  # eager takes its softmax in fp32
    theirs = reference.prompt_encoder["default"]
    pairs = {"prefix.vectors": theirs.embedding.weight}
    if mlp:
        for number in (0, 2):
            for letter in ("weight", "bias"):
                pairs[f"prefix.mlp.{number}.{letter}"] = getattr(theirs.transform[number], letter)
    flat = {"prefix.vectors"} if not mlp else set()
    with torch.no_grad():
        for name, parameter in pairs.items():
            value = model.get_parameter(name)
            if name in flat:  # [layers, 2, L, width] → peft's [L, layers · 2 · width]
                value = value.permute(2, 0, 1, 3).flatten(1)
            parameter.copy_(value)
    head = reference.get_submodule(f"base_model.{reference.cls_layer_name}")
    head = head.modules_to_save["default"]
    heads = dict(head.named_parameters())

    logits = EncoderRunner(model, "sequence", layout)(rows)
    expected = reference(**padded(rows, model.config.pad_token_id)).logits
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10)
    labels = rows.labels["labels"]
    model.zero_grad()
    F.cross_entropy(logits, labels).backward()
    F.cross_entropy(expected, labels).backward()
    for name, parameter in pairs.items():
        gradient = model.get_parameter(name).grad
        if name in flat:
            gradient = gradient.permute(2, 0, 1, 3).flatten(1)
        assert gradient.abs().max() > 1e-4
        torch.testing.assert_close(gradient, parameter.grad, rtol=0, atol=1e-10)
    for name, parameter in heads.items():
        gradient = model.get_parameter(f"classifier.{name}").grad
        torch.testing.assert_close(gradient, parameter.grad, rtol=0, atol=1e-10)


def test_positions_shift_only_where_requested(encoder, batch):
    actual = []
    for shifted in (False, True):
        model = encoder()
        component = attached(model, shift_positions=shifted)
        actual.append(EncoderRunner(model, "sequence")(batch(LENGTHS)))
        assert component.reserved_positions == (LENGTH if shifted else 0)
    assert (actual[0] - actual[1]).abs().max() > 1e-2


@pytest.mark.parametrize("kind", ["bert", "albert", "modernbert"])
def test_an_mlp_equals_the_prefix_it_makes(encoder, batch, kind):
    rows = batch(LENGTHS)
    model = encoder(kind)
    attached(model, mlp=True, mlp_hidden=7)
    with_mlp = EncoderRunner(model, "sequence")(rows)
    assert model.prefix.vectors.shape == (LENGTH, 24)
    flat = encoder(kind)
    attached(flat)
    with torch.no_grad():
        flat.prefix.vectors.copy_(model.prefix())
    torch.testing.assert_close(
        EncoderRunner(flat, "sequence")(rows), with_mlp, rtol=0, atol=1e-12
    )  # fmt: skip


def test_the_mlp_gives_each_layer_its_own_keys_and_values(encoder):
    model = encoder()
    attached(model, mlp=True, mlp_hidden=7)
    made = model.prefix()
    assert made.shape == (3, 2, LENGTH, 24)
    raw = model.prefix.mlp(model.prefix.vectors)  # [L, layers · 2 · width]
    for layer in range(3):
        for side in range(2):
            start = (2 * layer + side) * 24
            assert torch.equal(made[layer, side], raw[:, start : start + 24])


def test_dropout(encoder):
    model = encoder()
    attached(model, dropout=0.25, length=400)
    prefix = model.prefix
    assert torch.equal(prefix.eval()(), prefix.vectors)
    torch.manual_seed(0)
    drawn = prefix.train()()
    share = (drawn == 0).double().mean().item()
    assert share == pytest.approx(0.25, abs=0.01)
    remaining = drawn != 0
    torch.testing.assert_close(drawn[remaining], (prefix.vectors / 0.75)[remaining])
    prompted = encoder()
    attached(prompted, kind="prompt", dropout=0.25, length=400)
    assert torch.equal(prompted.prompt.eval()(), prompted.prompt.vectors)
    assert ((prompted.prompt.train()() == 0).double().mean() - 0.25).abs() < 0.02


@pytest.mark.parametrize("mlp", [False, True])
def test_the_start_has_the_scale_requested(encoder, mlp):
    whole, small = encoder(), encoder()
    attached(whole, length=40, mlp=mlp, mlp_hidden=4)
    attached(small, length=40, mlp=mlp, mlp_hidden=4, start_scale=0.125)
    assert whole.prefix.vectors.std().item() == pytest.approx(1, abs=0.1)
    assert torch.equal(small.prefix.vectors, 0.125 * whole.prefix.vectors)


def test_a_prompt_starts_as_words(encoder):
    model = encoder()
    words = model.get_input_embeddings().weight
    component = attached(model, kind="prompt")
    vectors = model.prompt.vectors
    assert vectors.shape == (LENGTH, 24) and vectors.dtype == torch.float64
    chosen = (vectors[:, None] == words[None]).all(-1)
    assert (chosen.sum(1) >= 1).all() and len(chosen.int().argmax(1).unique()) > 1
    before = words.detach().clone()
    with torch.no_grad():
        vectors.add_(1.0)
    assert torch.equal(words, before), "a copy of them"
    assert component.reserved_positions == LENGTH


def test_a_seed_repeats_the_start(encoder):
    for changes in ({}, {"mlp": True, "mlp_hidden": 4}, {"kind": "prompt"}):
        starts = []
        for _ in range(2):
            model = encoder()
            attached(model, **changes)
            starts.append(
                [parameter for name, parameter in model.named_parameters() if "pr" in name[:2]]
            )
        assert starts[0] and all(torch.equal(a, b) for a, b in zip(*starts, strict=True))


@pytest.mark.parametrize("changes", [{}, {"mlp": True}, {"kind": "prompt"}])
def test_one_group_without_decay(encoder, adapt, changes):
    model = encoder()
    components = adapt(model, prefix={"length": 2, "learning_rate": 0.5, **changes})
    [group] = [group for group in collect_param_groups(components, model) if group.name == "prefix"]
    assert (group.learning_rate, group.use_weight_decay) == (0.5, False)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    prefix_names = {name for name, _ in group.parameters}
    assert prefix_names == {name for name in trained if name.startswith(("prefix.", "prompt."))}
    assert trained - prefix_names == {"classifier.weight", "classifier.bias"}
    [_, component] = adapt(encoder(), rate=0.25, prefix={})
    assert component.learning_rate == 0.25 and not component.foldable and not component.trains_base


@pytest.mark.parametrize(
    ("changes", "trainable", "exported"),
    [
        ({"length": 4}, 73_728, 73_728),
        ({"length": 16}, 294_912, 294_912),
        ({"length": 100, "kind": "prompt"}, 76_800, 76_800),
        (
            {"length": 4, "mlp": True, "mlp_hidden": 512},
            4 * 768 + 512 * 769 + 18_432 * 513,
            73_728,
        ),
    ],
)
def test_counts_of_bert_base(changes, trainable, exported):
    with torch.device("meta"):
        model = BertModel(BertConfig())
        component = build(PrefixConfig(**changes), None, None)
        component.attach(model)
    assert component.parameter_counts(model) == {
        "trainable": trainable, "kept": trainable, "exported": exported
    }  # fmt: skip


@pytest.mark.parametrize("changes", [{}, {"mlp": True, "mlp_hidden": 4}, {"kind": "prompt"}])
def test_a_prefix_without_effect_is_an_error(encoder, batch, changes):
    model, rows = encoder(), batch([6])
    component = attached(model, **changes)
    model(input_ids=rows.input_ids[None]).logits.sum().backward()  # past the runner
    with pytest.raises(BertftError, match="does not use the prefix"):
        component.after_step(1, 10, None)


@pytest.mark.parametrize("changes", [{}, {"mlp": True, "mlp_hidden": 4}, {"kind": "prompt"}])
def test_a_prefix_with_effect_is_none(encoder, batch, changes):
    model = encoder()
    component = attached(model, **changes)
    EncoderRunner(model, "sequence")(batch([6])).sum().backward()
    component.after_step(1, 10, None)
    model.zero_grad(set_to_none=True)
    component.after_step(2, 10, None)  # checked once


def test_fp32_next_to_a_half_precision_base(encoder):
    model = encoder().to(torch.bfloat16)
    attached(model)
    assert model.prefix.vectors.dtype == torch.float32
    assert isinstance(model.prefix, PrefixVectors)
