"""The temperature against a search on a line, the calibration error against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar

from bertft.tasks.classification import ClassificationTask as Classification
from bertft.tasks.multi_label import MultiLabelTask as MultiLabel
from bertft.tasks.shared.calibration import expected_calibration_error, minimize_temperature


def sampled(rows, classes, seed):
    """Logits, and labels drawn from their softmax: calibrated as they are."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(size=(rows, classes)) * 2
    powers = np.exp(logits)
    labels = (draw.random((rows, 1)) > np.cumsum(powers / powers.sum(1, keepdims=True), 1)).sum(1)
    return logits, labels


@pytest.mark.parametrize("scale", [0.02, 0.5, 1.0, 3.0, 50.0])
@pytest.mark.parametrize("classes", [2, 5])
def test_the_temperature_minimizes_the_loss(scale, classes, settings, labelled):
    logits, labels = sampled(400, classes, classes)
    logits = (scale * logits).astype(np.float32)
    task = Classification(settings(), [f"c{n}" for n in range(classes)])
    actual = task.best_temperature(logits, labelled(labels))
    z, y = torch.from_numpy(logits).double(), torch.from_numpy(labels)
    line = minimize_scalar(
        lambda log_t: float(F.cross_entropy(z / np.exp(log_t), y)),
        bounds=(np.log(scale) - 3, np.log(scale) + 3), method="bounded",
        options={"xatol": 1e-10},
    )  # fmt: skip
    assert actual == pytest.approx(np.exp(line.x), rel=1e-6)
    assert actual == pytest.approx(scale, rel=0.2), "labels drawn from the logits undo the scale"
    log_t = torch.tensor(np.log(actual), requires_grad=True)
    F.cross_entropy(z / log_t.exp(), y).backward()
    assert abs(float(log_t.grad)) < 1e-7


def test_several_labels_have_one_temperature(settings, labelled):
    draw = np.random.default_rng(1)
    logits = draw.normal(size=(300, 3)) * 2
    labels = (draw.random((300, 3)) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    task = MultiLabel(settings(), ["a", "b", "c"])
    actual = task.best_temperature((4 * logits).astype(np.float32), labelled(labels))
    z, y = torch.from_numpy((4 * logits).astype(np.float32)).double(), torch.from_numpy(labels)
    line = minimize_scalar(
        lambda t: float(F.binary_cross_entropy_with_logits(z / t, y.double())),
        bounds=(1, 20), method="bounded", options={"xatol": 1e-9},
    )  # fmt: skip
    assert actual == pytest.approx(line.x, rel=1e-6)


def test_there_is_no_temperature_if_every_prediction_is_correct(settings, labelled):
    task = Classification(settings(), ["a", "b"])
    right = np.array([[1, 0], [0, 3], [2, 1]], np.float32)
    assert task.best_temperature(right, labelled([0, 1, 0])) is None
    assert task.best_temperature(right, labelled([0, 1, 1])) is not None


def test_there_is_no_temperature_for_logits_worse_than_constant_ones():
    z, y = torch.tensor([[1.0, 0.0], [0.0, 2.0]]).double(), torch.tensor([1, 0])
    assert minimize_temperature(z, lambda logits: F.cross_entropy(logits, y)) is None


def by_definition(confidence, right, bins):
    total = 0.0
    for b in range(1, bins + 1):
        inside = (confidence > (b - 1) / bins) & (confidence <= b / bins)
        if b == 1:
            inside |= confidence == 0
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


def test_calibration_error_is_its_definition():
    draw = np.random.default_rng(0)
    confidence = np.concatenate([draw.random(500), [0.0, 1.0, 0.2, 0.4, 0.6]])
    right = draw.random(505) < confidence**2
    for bins in (5, 15):
        actual = expected_calibration_error(confidence, right, bins)
        assert actual == pytest.approx(by_definition(confidence, right, bins), abs=1e-12)


def test_calibration_error_by_hand():
    """Of 4 answers at 0.9 two are right, of 4 at 0.5 two: ½ · 0.4 + ½ · 0."""
    confidence = np.array([0.9] * 4 + [0.5] * 4)
    right = np.array([1, 1, 0, 0] * 2, bool)
    assert expected_calibration_error(confidence, right) == pytest.approx(0.2)
    assert expected_calibration_error(np.ones(3), np.ones(3, bool)) == 0


def test_a_scale_that_is_undone_lowers_the_error(settings, labelled):
    logits, labels = sampled(2000, 3, 9)
    task = Classification(settings(), ["a", "b", "c"])
    sharp, rows = (3 * logits).astype(np.float32), labelled(labels)
    calm = sharp / np.float32(task.best_temperature(sharp, rows))
    assert task.calibration_error(sharp, rows) > 0.15
    assert task.calibration_error(calm, rows) < 0.03
    assert (
        task.compute_metrics(calm, rows)["accuracy"]
        == task.compute_metrics(sharp, rows)["accuracy"]
    )
