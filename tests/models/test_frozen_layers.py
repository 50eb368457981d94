"""Passes that begin with the states of frozen layers, next to passes that compute all layers."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from bertft.config.method_components.prefix import PrefixConfig
from bertft.methods.prefix import build
from bertft.models.families import encoder_layers
from bertft.models.forward_state import ActivationRecorder
from bertft.models.frozen_layers import FrozenLayers, count_frozen_layers
from bertft.models.runner import EncoderRunner

LENGTHS = [3, 9, 9, 17, 30]
KINDS = ["bert", "roberta", "distilbert", "electra", "modernbert", "deberta-v2", "mpnet"]
TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5}


def freeze(model, count):
    """Train the layers from ``count`` on, and what is above them."""
    for parameter in model.base_model.parameters():
        parameter.requires_grad_(False)
    if count < model.config.num_hidden_layers:
        for layer in list(encoder_layers(model))[count:]:
            layer.requires_grad_(True)
    pooler = getattr(model.base_model, "pooler", None)
    if pooler is not None:
        pooler.requires_grad_(True)
    return model


def run(runner, batch):
    """Logits and gradients by name."""
    logits = runner(batch)
    targets = batch.labels["labels"]
    if runner.level == "token":
        targets = targets.repeat_interleave(batch.lengths)
    cross_entropy(logits, targets).backward()
    grads = {n: p.grad for n, p in runner.model.named_parameters() if p.grad is not None}
    runner.model.zero_grad(set_to_none=True)
    return logits.detach(), grads


def with_states(runner, batch, count):
    runner.frozen = FrozenLayers(runner.model, count)
    with torch.no_grad():
        return replace(batch, frozen_states=runner.compute_frozen_states(batch))


def forbid(layer):
    """Nothing in ``layer`` may be computed."""

    def fail(*_):
        raise AssertionError("a frozen layer is computed")

    for module in layer.modules():
        module.register_forward_pre_hook(fail) if module is not layer else None


CASES = [(kind, count, torch.float64) for kind in KINDS for count in (1, 3)]
CASES += [("bert", 2, torch.float64), ("albert", 3, torch.float64)]  # whose layers are one module
CASES += [("bert", 2, torch.float32), ("roberta", 3, torch.float32)]


@pytest.mark.parametrize(("kind", "count", "dtype"), CASES)
@pytest.mark.parametrize(("head", "level"), [("sequence", "sequence"), ("token", "token")])
def test_logits_and_gradients_equal_those_of_all_layers(
    encoder, batch, kind, head, level, count, dtype
):
    model, rows = freeze(encoder(kind, head), count).to(dtype), batch(LENGTHS, kind == "bert")
    for layout in ("unpadded", "packed", "padded"):
        runner = EncoderRunner(copy.deepcopy(model), level, layout)
        logits, grads = run(runner, rows)
        stored = with_states(runner, rows, count)
        if kind != "albert":
            for layer in list(encoder_layers(runner.model))[:count]:
                forbid(layer)
        ours, our_grads = run(runner, stored)
        tolerance = TOLERANCES[dtype]
        torch.testing.assert_close(ours, logits, rtol=0, atol=tolerance)
        assert our_grads.keys() == grads.keys() and grads
        for name, grad in grads.items():
            torch.testing.assert_close(our_grads[name], grad, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("head", "level", "vectors"), [("sequence", "sequence", 5), ("token", "token", 68)]
)
def test_only_what_the_head_reads_is_stored(encoder, batch, head, level, vectors):
    runner, rows = EncoderRunner(encoder("bert", head), level), batch(LENGTHS)
    assert with_states(runner, rows, 3).frozen_states.shape == (vectors, 24)
    assert with_states(runner, rows, 2).frozen_states.shape == (68, 24)


def test_the_mean_of_modernbert_is_one_vector(encoder, batch):
    model, rows = encoder("modernbert", classifier_pooling="mean"), batch(LENGTHS, False)
    runner = EncoderRunner(model, "sequence")
    expected = runner(rows)
    stored = with_states(runner, rows, 3)
    assert stored.frozen_states.shape == (5, 24)
    torch.testing.assert_close(runner(stored), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("count", [2, 3])
def test_gradient_checkpointing_recomputes_upper_layers_alone(encoder, batch, count):
    rows, results = batch(LENGTHS), []
    for checkpointing in (False, True):
        model = freeze(encoder("bert"), count).train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        runner = EncoderRunner(model, "sequence")
        results.append(run(runner, with_states(runner, rows, count)))
    (_, ours), (_, expected) = results
    for name, grad in expected.items():
        torch.testing.assert_close(ours[name], grad, rtol=1e-12, atol=1e-14)


def test_a_pass_leaves_the_model_as_it_was(encoder, batch):
    runner, rows = EncoderRunner(encoder("bert"), "sequence"), batch(LENGTHS)
    forwards = {name: vars(m).get("forward") for name, m in runner.model.named_modules()}
    hooks = {name: len(m._forward_hooks) for name, m in runner.model.named_modules()}
    expected = runner(rows)
    for count in (1, 3):
        stored = with_states(runner, rows, count)
        runner(stored)
        other = replace(stored, frozen_states=stored.frozen_states + 1)
        assert not torch.equal(runner(other), expected), "the states are used"
    assert {name: vars(m).get("forward") for name, m in runner.model.named_modules()} == forwards
    assert {name: len(m._forward_hooks) for name, m in runner.model.named_modules()} == hooks
    assert torch.equal(runner(rows), expected)


def test_states_are_for_their_own_runner_and_passes_without_recorder(encoder, batch):
    """A teacher gets the batches of its student, and a recorder needs all layers."""
    student, rows = EncoderRunner(encoder("bert"), "sequence"), batch(LENGTHS)
    stored = with_states(student, rows, 3)
    stored.frozen_states.zero_()
    teacher = EncoderRunner(encoder("bert"), "sequence")
    expected = teacher(rows)
    assert torch.equal(teacher(stored), expected)
    recorder = ActivationRecorder(frozenset({0}), record_hidden=True)
    torch.testing.assert_close(student(stored, recorder), expected, rtol=0, atol=1e-12)
    assert len(recorder.hidden_states) == 4


@pytest.mark.parametrize(
    ("kind", "trained", "count"),
    [
        ("bert", [], 3),
        ("bert", ["classifier.weight"], 3),
        ("bert", ["bert.pooler.dense.weight"], 3),
        ("bert", ["bert.encoder.layer.2.output.dense.bias"], 2),
        ("bert", [f"bert.encoder.layer.{number}.output.dense.bias" for number in (2, 1)], 1),
        ("bert", ["bert.embeddings.LayerNorm.bias"], 0),
        ("electra", ["electra.embeddings_project.bias"], 0),
        ("modernbert", ["model.final_norm.weight"], 2),
        ("deberta-v2", ["deberta.encoder.rel_embeddings.weight"], 0),
        ("albert", [], 3),
        ("albert", ["albert.encoder.embedding_hidden_mapping_in.weight"], 0),
    ],
)  # fmt: skip
def test_the_lowest_trained_parameter_counts(encoder, kind, trained, count):
    model = encoder(kind).requires_grad_(False)
    for name in trained:
        model.get_parameter(name).requires_grad_(True)
    actual, lowest = count_frozen_layers(model)
    assert actual == count
    assert (lowest is None) == (count == 3)
    if lowest is not None:
        assert any(name.endswith(f".{lowest}") for name in trained)


@pytest.mark.parametrize("kind", ["key_value", "prompt"])
def test_a_prefix_leaves_no_layer_frozen(encoder, kind):
    model = encoder("bert").requires_grad_(False)
    build(PrefixConfig(length=2, kind=kind), None, None).attach(model)
    assert count_frozen_layers(model)[0] == 0


def test_the_digest_is_that_of_what_computes_the_states(encoder):
    def digest(model, count, fused=True):
        EncoderRunner(model, "sequence", fused_layers=fused)
        return FrozenLayers(model, count).digest()

    def changed(name):
        model = freeze(encoder("bert"), 2)
        with torch.no_grad():
            model.get_parameter(name).view(-1)[0] += 1
        return model

    base = digest(freeze(encoder("bert"), 2), 2)
    assert digest(changed("bert.encoder.layer.2.output.dense.bias"), 2) == base
    assert digest(changed("bert.pooler.dense.weight"), 2) == base
    assert digest(changed("classifier.weight"), 2) == base
    others = [
        digest(changed("bert.encoder.layer.1.output.dense.bias"), 2),
        digest(changed("bert.embeddings.word_embeddings.weight"), 2),
        digest(freeze(encoder("bert"), 2).float(), 2),
        digest(freeze(encoder("bert"), 2), 2, fused=False),
        digest(freeze(encoder("bert"), 3), 3),
    ]
    assert len({base, *others}) == 6
