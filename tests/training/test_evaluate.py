"""Batches are sorted by length and cut by a budget; what comes back is in the table's order."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bertft.data.batch import collate
from bertft.models.precision import Precision
from bertft.training import evaluate as evaluating
from bertft.training.evaluate import evaluate, predict_logits

LENGTHS = [3, 9, 5, 7, 4, 6, 8, 3, 5, 10, 3]
CPU = Precision("fp32", torch.device("cpu"))


def row_by_row(runner, rows):
    with torch.no_grad():
        return np.concatenate(
            [runner(collate(rows, np.array([number]), ())).numpy() for number in range(len(rows))]
        )


@pytest.mark.parametrize("layout", ["unpadded", "padded"])
@pytest.mark.parametrize("budget", [1, 12, 30, None])
@pytest.mark.parametrize(("name", "size"), [("classification", 11), ("tagging", sum(LENGTHS))])
def test_logits_are_those_of_the_rows_one_by_one(stepper, table, name, size, budget, layout):
    runner = stepper(name, layout=layout).runner
    rows = table(LENGTHS, name)
    runner.model.eval()
    expected = row_by_row(runner, rows)
    actual = predict_logits(runner, rows, CPU, budget)
    assert actual.shape == (size, 3) and actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)
    assert np.abs(expected - expected[::-1]).max() > 0.1, "the order matters"


@pytest.mark.parametrize("room", [0, 40, 1 << 20])
def test_outputs_are_fetched_whenever_their_room_is_full(stepper, table, monkeypatch, room):
    """Six batches of two rows, but for the last: 24 bytes each."""
    runner, rows = stepper().runner, table(LENGTHS)
    expected = predict_logits(runner, rows, CPU)
    monkeypatch.setattr(evaluating, "_MAX_BYTES_ON_DEVICE", room)
    fetched = []
    monkeypatch.setattr(
        torch.Tensor, "cpu", lambda tensor: fetched.append(len(made)) or tensor, raising=True
    )
    made = []
    actual = predict_logits(
        runner,
        rows,
        CPU,
        20,
        select_outputs=lambda logits, batch: made.append(len(batch)) or logits,
    )
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)
    assert sum(made) == 11 and len(fetched) == len(made) > 3
    at_once = [fetched.count(number) for number in sorted(set(fetched))]
    assert {0: max(at_once) == 1, 40: 1 < max(at_once) < len(made)}.get(
        room, at_once == [len(made)]
    )


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_and_the_mode_put_back(stepper, table, training):
    runner = stepper(dropout=0.5).runner
    runner.model.train(training)
    actual = [predict_logits(runner, table(LENGTHS), CPU) for _ in range(2)]
    assert np.array_equal(*actual)
    assert all(module.training is training for module in runner.model.modules())


def test_the_mode_is_put_back_after_an_error(stepper, table):
    runner = stepper().runner
    runner.model.train()
    runner.model.classifier.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        predict_logits(runner, table(LENGTHS), CPU)
    assert runner.model.training


def test_training_continues_after_an_evaluation(stepper, table):
    """Nothing that was made in inference mode stays behind."""
    made = stepper()
    rows = table(LENGTHS)
    predict_logits(made.runner, rows, CPU)
    outcome = made([collate(rows, np.arange(11), ("labels",))], 1, 2)
    assert outcome.applied and outcome.gradient_norm > 0


def test_metrics_are_of_the_whole_table(stepper, table):
    made = stepper()
    rows = table(LENGTHS)
    actual = evaluate(made.runner, made.task, rows, CPU)
    logits = row_by_row(made.runner, rows)
    right = logits.argmax(1) == rows.gather("labels", np.arange(11))
    assert actual["accuracy"] == pytest.approx(right.mean())
