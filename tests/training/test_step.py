"""One optimizer step: the window's mean, penalties once, and nothing of what is not finite."""

from __future__ import annotations

import traceback

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from bertft.config.loss import LossConfig
from bertft.data.batch import collate, split_into_micro_batches
from bertft.models.precision import Precision

LENGTHS = [3, 9, 5, 7, 4, 6, 8]


def cut(rows, size):
    return [
        collate(rows, indices, ("labels",))
        for indices in split_into_micro_batches(np.arange(len(rows)), size)
    ]


def gradients(stepper, batches):
    stepper.optimizer.zero_grad()
    loss, penalty, _ = stepper.compute_gradients(batches)
    return loss, penalty, [parameter.grad.clone() for parameter in stepper.parameters]


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("name", ["classification", "multi_label", "tagging"])
def test_a_window_of_micro_batches_equals_one_batch(stepper, table, everything, name, size):
    """Ragged last ones included, and rows with no term at all (the first of tagging)."""
    rows = table(LENGTHS, name)
    made = stepper(name, component=everything(weight=0.1))
    loss, penalty, whole = gradients(made, cut(rows, 7))
    pieces = cut(rows, size)
    assert len(pieces) == -(-7 // size)
    found_loss, found_penalty, actual = gradients(made, pieces)
    torch.testing.assert_close(found_loss, loss, rtol=1e-12, atol=0)
    assert torch.equal(found_penalty, penalty)
    for one, other in zip(actual, whole, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("name", ["classification", "multi_label"])
@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_so_does_a_shaped_loss(stepper, table, task, name, size, gamma):
    """Weights are no terms: the mean is over rows, whoever they came with."""
    rows, chosen = table(LENGTHS, name), task(name)
    chosen.configure_loss(LossConfig({"a": 0.25, "b": 3.0}, 0.1, gamma), rows)
    made = stepper(chosen)
    loss, _, whole = gradients(made, cut(rows, 7))
    found_loss, _, actual = gradients(made, cut(rows, size))
    torch.testing.assert_close(found_loss, loss, rtol=1e-12, atol=0)
    for one, other in zip(actual, whole, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)
    plain, _, _ = gradients(stepper(name), cut(rows, 7))
    assert abs(float(loss) - float(plain)) > 1e-2
    alone = [float(gradients(made, [piece])[0]) for piece in cut(rows, 1)]
    assert float(loss) == pytest.approx(np.mean(alone), rel=1e-12)


def test_the_loss_is_the_mean_over_terms_not_over_rows_or_micro_batches(stepper, table, task):
    rows = table(LENGTHS, "tagging")
    made = stepper("tagging")
    [batch] = cut(rows, 7)
    labels = batch.labels["labels"]
    logits = made.runner(batch).detach()
    token_losses = torch.nn.functional.cross_entropy(
        logits, labels, ignore_index=-100, reduction="none"
    )
    terms = int((labels != -100).sum())
    assert terms == sum(min(number, length) for number, length in enumerate(LENGTHS))
    loss, _, _ = gradients(made, cut(rows, 3))
    assert float(loss) == pytest.approx(float(token_losses.sum() / terms), rel=1e-12)
    naive = [float(gradients(made, [piece])[0]) for piece in cut(rows, 3)]
    assert abs(float(loss) - sum(naive) / len(naive)) > 1e-3


def test_the_gradient_is_that_of_transformers_own_mean_loss(stepper, table):
    rows = table(LENGTHS)
    made = stepper()
    twin = stepper().runner.model
    _, _, actual = gradients(made, cut(rows, 3))
    twin.set_attn_implementation("sdpa")
    total = 0
    for batch in cut(rows, 1):
        inputs = {"input_ids": batch.input_ids[None], "labels": batch.labels["labels"]}
        total = total + twin(**inputs).loss / len(rows)
    total.backward()
    expected = {name: parameter.grad for name, parameter in twin.named_parameters()}
    names = [name for group in made.optimizer.param_groups for name in group["param_names"]]
    for name, one in zip(names, actual, strict=True):
        torch.testing.assert_close(one, expected[name], rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", [7, 2])
def test_penalties_are_added_once_a_step(stepper, table, everything, size):
    rows, component = table(LENGTHS), everything(weight=0.5)
    plain, penalised = stepper(), stepper(component=component)
    loss, none, plain_gradients = gradients(plain, cut(rows, size))
    assert none is None
    same_loss, penalty, actual = gradients(penalised, cut(rows, size))
    assert torch.equal(same_loss, loss) and component.calls == ["loss"]
    squares = sum(parameter.detach().square().sum() for parameter in penalised.parameters)
    torch.testing.assert_close(penalty, 0.25 * squares)
    for one, other, parameter in zip(actual, plain_gradients, penalised.parameters, strict=True):
        torch.testing.assert_close(one, other + 0.5 * parameter, rtol=0, atol=1e-12)
    outcome = penalised(cut(rows, size), 1, 10)
    assert outcome.loss == pytest.approx(float(loss), rel=1e-12)
    assert outcome.penalty == pytest.approx(float(penalty), rel=1e-12)


@pytest.mark.parametrize("clip", [None, 1e-3, 0.1, 1e3])
def test_clipping_is_torchs(stepper, table, everything, clip):
    rows, component = table(LENGTHS), everything()
    reference = stepper()
    _, _, expected = gradients(reference, cut(rows, 3))
    norm = torch.linalg.vector_norm(torch.cat([gradient.flatten() for gradient in expected]))
    if clip is not None:
        torch.nn.utils.clip_grad_norm_(reference.parameters, clip)
    made = stepper(component=component, clip=clip)
    outcome = made(cut(rows, 3), 1, 10)
    assert outcome.gradient_norm == pytest.approx(float(norm), rel=1e-12), "before clipping"
    order = {id(parameter): number for number, parameter in enumerate(made.parameters)}
    for (_, parameter), gradient in zip(component.named, component.seen, strict=True):
        wanted = reference.parameters[order[id(parameter)]].grad
        torch.testing.assert_close(gradient, wanted, rtol=1e-12, atol=0)


def test_a_step_is_adamws(stepper, table, everything):
    """θ ← θ − η·(m̂ / (√v̂ + ε) + λθ): at the first step m̂ = g and v̂ = g²."""
    rows, component = table(LENGTHS), everything(rate=0.01)
    made = stepper(component=component)
    before = [parameter.detach().clone() for _, parameter in component.named]
    outcome = made(cut(rows, 3), 1, 10)
    assert outcome.applied and component.calls == ["loss", "before", "after"]
    for (_, parameter), old, gradient in zip(component.named, before, component.seen, strict=True):
        decay = 0.01 if parameter.dim() > 1 else 0.0
        wanted = old - 0.01 * (gradient / (gradient.abs() + 1e-8) + decay * old)
        torch.testing.assert_close(parameter.detach(), wanted, rtol=0, atol=1e-12)
        assert parameter.grad is None


def everything_of(made):
    state = made.optimizer.state
    return [parameter.detach().clone() for parameter in made.parameters] + [
        state[parameter][key].clone()
        for parameter in made.parameters
        if parameter in state
        for key in sorted(state[parameter])
    ]


def unharmed(made, before):
    after = everything_of(made)
    assert len(after) == len(before)
    for one, other in zip(after, before, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
    assert all(parameter.grad is None for parameter in made.parameters)


@pytest.mark.parametrize("size", [7, 3])
def test_a_loss_that_is_not_finite_moves_nothing(stepper, table, everything, size):
    component = everything()
    made = stepper(component=component, poisoned=True, clip=1.0)
    assert made(cut(table(LENGTHS), size), 1, 10).applied
    before, calls = everything_of(made), len(component.calls)
    assert len(before) == 4 * len(made.parameters)
    outcome = made(cut(table(LENGTHS, poisoned=[4]), size), 2, 10)
    assert not outcome.applied and not outcome.loss_scale_reduced and np.isnan(outcome.loss)
    assert component.calls[calls:] == ["loss"], "neither before_step nor after_step"
    unharmed(made, before)


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_a_gradient_that_is_not_finite_moves_nothing(stepper, table, value):
    made = stepper(clip=1.0)
    made(cut(table(LENGTHS), 3), 1, 10)
    before = everything_of(made)
    handle = made.parameters[3].register_hook(lambda gradient: gradient * value)
    outcome = made(cut(table(LENGTHS), 3), 2, 10)
    assert np.isfinite(outcome.loss) and not outcome.applied
    unharmed(made, before)
    handle.remove()
    assert made(cut(table(LENGTHS), 3), 3, 10).applied


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_loss_that_is_not_finite_moves_nothing_though_its_gradient_is(stepper, table, value):
    made = stepper()
    exact = made.task.loss
    made.task.loss = lambda logits, batch: exact(logits, batch) + value
    before = everything_of(made)
    outcome = made(cut(table(LENGTHS), 3), 1, 10)
    assert np.isfinite(outcome.gradient_norm) and not outcome.applied
    unharmed(made, before)


def test_the_cpu_needs_no_scaler(stepper):
    made = stepper()
    assert not made.scaler.is_enabled() and made.scaler.state_dict() == {}


@pytest.fixture
def scaled() -> Precision:
    """fp16's scaler around fp64, where powers of two change nothing: the CPU has one too."""
    precision = Precision("fp32", torch.device("cpu"))
    precision.uses_loss_scaling = True
    return precision


def test_a_scaled_step_equals_a_plain_one(stepper, table, everything, scaled):
    plain = stepper(component=everything(weight=0.1), clip=0.5)
    other = stepper(component=everything(weight=0.1), clip=0.5, precision=scaled)
    assert other.scaler.get_scale() == 65536
    for step in (1, 2, 3):
        expected = plain(cut(table(LENGTHS), 3), step, 10)
        assert other(cut(table(LENGTHS), 3), step, 10) == expected
    for one, two in zip(plain.parameters, other.parameters, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-14)


def test_an_overflow_lowers_the_scale_and_has_its_own_event(stepper, table, scaled):
    made = stepper(precision=scaled)
    before = everything_of(made)
    handle = made.parameters[0].register_hook(lambda gradient: gradient * float("inf"))
    outcomes, scales = [], []
    for step in range(1, 20):
        outcomes.append(made(cut(table(LENGTHS), 7), step, 20))
        scales.append(made.scaler.get_scale())
    assert not any(outcome.applied for outcome in outcomes)
    assert scales == [2.0 ** (15 - number) for number in range(19)]
    # From a scale of 1 on no scale is to blame: these count as non-finite steps.
    assert [outcome.loss_scale_reduced for outcome in outcomes] == [True] * 16 + [False] * 3
    unharmed(made, before)
    handle.remove()
    assert made(cut(table(LENGTHS), 7), 20, 20).applied


def test_a_nan_loss_is_no_fault_of_the_scale(stepper, table, scaled):
    made = stepper(precision=scaled, poisoned=True)
    outcome = made(cut(table(LENGTHS, poisoned=[0]), 7), 1, 10)
    assert not outcome.applied and not outcome.loss_scale_reduced


class Reads(TorchDispatchMode):
    """Counts how often a number is fetched from a tensor by itself."""

    def __init__(self):
        super().__init__()
        self.stacks: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default:
            self.stacks.append(traceback.format_stack()[-3])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("layout", ["unpadded", "packed", "padded"])
def test_no_number_is_read_by_itself(stepper, table, everything, layout):
    """On an accelerator each would be waited for; losses and norm come in one piece."""
    made = stepper(component=everything(weight=0.1), layout=layout, clip=1.0, dropout=0.1)
    batches = cut(table(LENGTHS), 3)
    made(batches, 1, 10)
    with Reads() as reads:
        outcome = made(batches, 2, 10)
        assert reads.stacks == []
        float(torch.ones(1))
    assert len(reads.stacks) == 1 and outcome.applied


def test_what_a_part_has_read_comes_with_the_loss(stepper, table, everything):
    class Telling(everything):
        def device_metrics(self):
            return {"weight_sum": torch.stack([p.detach().sum() for _, p in self.named]).sum()}

    made = stepper(component=Telling(weight=0.1))
    before = float(made.components[0].device_metrics()["weight_sum"])
    outcome = made(cut(table(LENGTHS), 3), 1, 10)
    assert outcome.device_metrics == {"weight_sum": pytest.approx(before)} and outcome.losses == {}
    assert float(made.components[0].device_metrics()["weight_sum"]) != pytest.approx(before)


def test_a_rank_without_rows_scales_its_gradients_too(stepper):
    """In its first step the scaler has scaled nothing yet."""
    precision = Precision("fp16", torch.device("cpu"))
    precision.dtype = torch.float32  # the scaler alone is looked at
    made = stepper(precision=precision, dtype=torch.float32)
    for parameter in made.parameters:
        parameter.grad = torch.full_like(parameter, made.scaler.get_scale())
    made.scaler.unscale_(made.optimizer)
    assert all(bool((parameter.grad == 1).all()) for parameter in made.parameters)


@pytest.mark.parametrize("package", ["bertft.methods", "bertft_example"])
def test_components_of_plugins_may_change_gradients(stepper, table, everything, package):
    """They may add to rows without a token: the next step must not keep that."""

    class Noise(everything):
        def before_step(self, step, total):
            super().before_step(step, total)
            if package == "bertft_example":
                for _, parameter in self.named:
                    parameter.grad.add_(1.0)

    Noise.__module__ = package
    component = Noise()
    train_step = stepper(component=component)
    batches = cut(table(LENGTHS), 8)
    unused = torch.ones(60, dtype=torch.bool)
    unused[batches[0].input_ids] = False
    name = next(name for name, _ in component.named if name.endswith("word_embeddings.weight"))
    for step in (1, 2):
        train_step(batches, step, 2)
        grad = dict(zip((name for name, _ in component.named), component.seen, strict=True))[name]
        assert unused.any() and not grad[unused].any()
    embedding = train_step.runner.model.get_input_embeddings()
    assert (type(embedding) is torch.nn.Embedding) == (package == "bertft_example")
