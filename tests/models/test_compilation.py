"""Compiled layers compute what they compute as they are, for lengths that no graph was made for.

``aot_eager`` traces and cuts graphs as inductor does, and needs no compiler.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from bertft.config.method_components import low_rank, prefix
from bertft.errors import SystemResourceError, UsageError
from bertft.methods.low_rank import build as build_low_rank
from bertft.methods.prefix import build as build_prefix
from bertft.models import compilation
from bertft.models.dropout import replace_dropout
from bertft.models.forward_state import ActivationRecorder
from bertft.models.runner import EncoderRunner

CPU = torch.device("cpu")
LENGTHS = [[3, 9, 9, 17, 30], [4, 4], [1, 2, 3], [40, 41, 3]]


@pytest.fixture(autouse=True)
def traced(monkeypatch):
    monkeypatch.setattr(compilation, "_BACKEND", "aot_eager")
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


def graphs():
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def passes(runner, model, batch, kind):
    """Logits and gradients of each batch."""
    types = kind in ("bert", "electra")
    for lengths in LENGTHS:
        logits = runner(batch(lengths, types))
        logits.square().sum().backward()
        named = model.named_parameters()
        grads = {name: parameter.grad for name, parameter in named if parameter.grad is not None}
        model.zero_grad(set_to_none=True)
        yield logits.detach(), grads


def adapted(encoder, kind, method, **settings):
    model = encoder(kind, **settings).train()
    torch.manual_seed(3)
    if "lora" in method:
        kind = "svd_lora" if "svd_lora" in method else "lora"
        config = low_rank.LowRankConfig(kind=kind, dropout=0.0)
        build_low_rank(config, SimpleNamespace(rank=4, initial_rank=6), None).attach(model)
    if "prefix" in method:
        build_prefix(prefix.PrefixConfig(length=3), None, None).attach(model)
    return model


@pytest.mark.parametrize(
    ("kind", "method", "checkpointing"),
    [
        ("bert", "lora", True),
        *(
            pytest.param(kind, method, checkpointing, marks=pytest.mark.long)
            for kind in ("bert", "roberta", "electra", "distilbert", "modernbert")
            for method in ("full", "lora", "prefix", "svd_lora_prefix")
            for checkpointing in (False, True)
        ),
    ],
)
def test_logits_and_gradients(encoder, batch, kind, method, checkpointing):
    results = []
    for compiles in (False, True):
        model = adapted(encoder, kind, method)
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        runner = EncoderRunner(model, "sequence")
        if compiles:
            runner.compile(CPU)
        results.append(list(passes(runner, model, batch, kind)))
        if compiles:
            made = graphs()
            assert made > 0
    for (logits, grads), (expected, reference) in zip(*results, strict=True):
        torch.testing.assert_close(logits, expected, rtol=1e-10, atol=1e-12)
        assert grads.keys() == reference.keys() != set()
        for name in grads:
            torch.testing.assert_close(grads[name], reference[name], rtol=1e-9, atol=1e-11)


@pytest.mark.long
def test_other_lengths_and_layers_make_no_more_graphs(encoder, batch):
    model = adapted(encoder, "bert", "lora", num_hidden_layers=6)
    runner = EncoderRunner(model, "sequence")
    runner.compile(CPU)
    made = [graphs() for _ in passes(runner, model, batch, "bert")]
    assert made[0] == made[-1] <= 8
    assert not torch._dynamo.utils.counters["recompile_limit"]


@pytest.mark.long
def test_dropout_is_drawn_again_at_its_rate(encoder, batch):
    model = encoder("bert", dropout=0.3).train()
    replace_dropout(model)
    runner = EncoderRunner(model, "sequence")
    runner.compile(CPU)
    rows = batch(LENGTHS[0])
    torch.manual_seed(5)
    first, second = runner(rows), runner(rows)
    assert not torch.equal(first, second)
    torch.manual_seed(5)
    torch.testing.assert_close(runner(rows), first)


def test_passes_without_gradients_run_as_they_are(encoder, batch):
    model = encoder("bert")
    runner = EncoderRunner(model, "sequence")
    with torch.inference_mode():
        expected = runner(batch(LENGTHS[0]))
        runner.compile(CPU)
        made = graphs()
        assert torch.equal(runner(batch(LENGTHS[0])), expected)
    assert graphs() == made


def test_weights_keep_their_names(encoder):
    model = encoder("bert")
    names = list(model.state_dict())
    EncoderRunner(model, "sequence").compile(CPU)
    assert list(model.state_dict()) == names


@pytest.mark.parametrize("kind", ["albert", "deberta-v2"])
def test_where_it_cannot_be(encoder, kind):
    with pytest.raises(UsageError, match=r"trainer\.compile"):
        EncoderRunner(encoder(kind), "sequence").compile(CPU)


def test_without_a_compiler_it_is_reported_in_one_line(encoder, monkeypatch):
    def broken(graph, inputs):
        raise RuntimeError("no C++ compiler\nat all")

    monkeypatch.setattr(compilation, "_BACKEND", broken)
    with pytest.raises(SystemResourceError) as error:
        EncoderRunner(encoder("bert"), "sequence").compile(CPU)
    assert "no C++ compiler" in str(error.value) and "\n" not in str(error.value)
    assert "Set it to false" in str(error.value)


@pytest.mark.long
def test_inner_states_and_attention_are_seen(encoder, batch):
    actual = []
    for compiles in (False, True):
        model = encoder("bert").train()
        runner, trace = (
            EncoderRunner(model, "sequence"),
            ActivationRecorder(frozenset({0, 2}), record_hidden=True),
        )
        if compiles:
            runner.compile(CPU)
        runner(batch(LENGTHS[0]), trace)
        sum(state.square().sum() for state in trace.hidden_states).backward()
        weight = model.bert.encoder.layer[0].output.dense.weight
        actual.append(
            [*trace.hidden_states, *(trace.head_states[at].key for at in (0, 2)), weight.grad]
        )
    for one, other in zip(*actual, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
