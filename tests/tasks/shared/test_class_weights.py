"""Class weights: balanced as scikit-learn and torch define it, configured by name or in order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from bertft.config.class_weights import class_weight_problems
from bertft.config.loss import LossConfig
from bertft.config.rules.classes import _check_class_weights
from bertft.errors import UsageError
from bertft.tasks.classification import ClassificationTask as Classification
from bertft.tasks.multi_label import MultiLabelTask as MultiLabel
from bertft.tasks.shared.losses import configured_class_weights

NAMES = ["bad", "good", "3"]


def shaped(task, labelled, labels, **settings_of_loss):
    task.configure_loss(LossConfig(**settings_of_loss), labelled(labels))
    return task.loss_options


def test_balanced_is_scikit_learns(settings, labelled):
    labels = np.array([0] * 5 + [1] * 2 + [2] * 13)
    shape = shaped(Classification(settings(), NAMES), labelled, labels, class_weights="balanced")
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(shape.weights.numpy(), expected, rtol=1e-15)
    # so the mean weight of the training rows is 1, and no learning rate changes its meaning
    assert float(shape.weights[torch.from_numpy(labels)].mean()) == pytest.approx(1, rel=1e-15)


def test_balanced_labels_weigh_as_much_true_as_false(settings, labelled):
    labels = np.array([[1, 0, 1], [1, 0, 0], [1, 1, 0], [0, 0, 0]], np.float32)
    task = MultiLabel(settings(), NAMES)
    shape = shaped(task, labelled, labels, class_weights="balanced")
    assert shape.weights.tolist() == [1 / 3, 3.0, 3.0]


@pytest.mark.parametrize(
    ("task", "labels", "message"),
    [
        (Classification, [0, 0, 1], "no training row has 3"),
        (MultiLabel, [[1, 0, 0], [0, 0, 1]], "no training row has good"),
        (MultiLabel, [[1, 1, 0], [1, 0, 1]], "every training row has bad"),
    ],
)
def test_classes_without_rows_cannot_be_balanced(task, labels, message, settings, labelled):
    with pytest.raises(UsageError, match=rf"loss\.class_weights.*{message}"):
        shaped(task(settings(), NAMES), labelled, labels, class_weights="balanced")


@pytest.mark.parametrize(
    ("configured", "expected"),
    [
        ({"good": 2}, [1, 2, 1]),
        ({3: 0.5, "bad": 0}, [0, 1, 0.5]),
        ([4, 2, 1], [4, 2, 1]),
    ],
)
def test_weights_can_be_a_mapping_or_a_list(configured, expected, settings, labelled):
    task = Classification(settings(), NAMES)
    assert list(task.find_problems(LossConfig(class_weights=configured), False)) == []
    shape = shaped(task, labelled, [0, 1, 2], class_weights=configured, label_smoothing=0.1)
    assert (shape.weights.tolist(), shape.label_smoothing, shape.focal_gamma) == (
        expected,
        0.1,
        0.0,
    )


@pytest.mark.parametrize(
    ("names", "configured", "expected"),
    [
        (["false", "true"], {True: 2}, [1, 2]),
        (["1.0", "2.0"], {1: 3, "2": 4}, [3, 4]),
        (["1", "2"], {1.0: 3, "2.0": 4}, [3, 4]),
        (["1.1", "1.10"], {"1.10": 5}, [1, 5]),
    ],
)
def test_a_key_is_the_class_of_the_same_text_or_number(names, configured, expected):
    assert list(class_weight_problems(configured, names)) == []
    assert configured_class_weights(configured, names).tolist() == expected


def test_list_weights_of_a_mapping_are_those_of_its_classes():
    words = {"data.labels": {1: "low", 2: "low", 3: "high"}, "loss.class_weights": [1, 2]}
    assert list(_check_class_weights(words.get)) == []


@pytest.mark.parametrize(
    ("configured", "messages"),
    [
        ({3: 1, "3.0": 2}, ["3 and '3.0' are the same class with two weights"]),
        ("ballanced", ["invalid class weights 'ballanced'"]),
        ([], ["invalid class weights []"]),
        ({"goood": 2, "good": 1}, ["unknown class 'goood'. Did you mean 'good'?"]),
        ([1, 2], ["2 weights for 3 classes. Set one per class, in the order bad, good, 3"]),
        (
            {"bad": -1, "good": "much"},
            ["the weight -1 of bad is not valid", "the weight 'much' of good is not valid"],
        ),
        (
            [float("nan"), True, 1],
            ["the weight nan of 0 is not valid", "the weight True of 1 is not valid"],
        ),
        ([0, 0, 0], ["every weight is 0"]),
    ],
)
def test_invalid_weights_are_rejected(configured, messages):
    actual = [str(problem) for problem in class_weight_problems(configured, NAMES)]
    assert len(actual) == len(messages)
    for problem, message in zip(actual, messages, strict=True):
        assert problem.startswith("loss.class_weights: ") and message in problem


def test_the_metric_stays_the_plain_loss(settings, labelled):
    rows = labelled([0, 1, 1, 2])
    logits = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    task = Classification(settings(), NAMES)
    before = task.compute_metrics(logits, rows)
    task.configure_loss(LossConfig("balanced", 0.2, 2.0), rows)
    assert task.compute_metrics(logits, rows) == before
