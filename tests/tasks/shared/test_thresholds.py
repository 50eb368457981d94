"""Thresholds against trying every one of them, and every combination of them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from bertft.errors import UsageError
from bertft.tasks.classification import ClassificationTask as Classification
from bertft.tasks.multi_label import MultiLabelTask as MultiLabel
from bertft.tasks.shared.calibration import best_index, threshold_curve


def logit(p):
    return np.log(p) - np.log1p(-p)


def two(p):
    """Logits of two classes, the second of probability ``p``."""
    return np.stack([np.zeros_like(p), logit(p)], 1)


def test_cuts_lie_between_neighbouring_scores():
    actual = threshold_curve(np.array([0.8, 0.2, 0.6, 0.2]), np.array([True, False, True, True]))
    assert actual.thresholds.tolist() == pytest.approx([0.1, 0.4, 0.5, 0.7, 0.9])
    assert actual.predicted.tolist() == [4, 2, 2, 1, 0]
    assert actual.true_positives.tolist() == [3, 2, 2, 1, 0]
    assert (actual.positives, actual.rows) == (3, 4)


def test_nothing_lies_beyond_0_and_1():
    actual = threshold_curve(np.array([0.0, 1.0, 1.0]), np.array([False, True, False]))
    assert actual.thresholds.tolist() == [0.5] and actual.predicted.tolist() == [2]


def test_adjacent_floats_are_separated():
    low = 0.3
    high = np.nextafter(low, 1)
    actual = threshold_curve(np.array([low, high]), np.array([False, True]))
    k = best_index(actual.f1(), actual.thresholds)
    assert actual.f1()[k] == 1 and low < actual.thresholds[k] <= high


def test_ties_choose_the_threshold_closest_to_one_half():
    thresholds = np.array([0.1, 0.45, 0.5, 0.8])
    assert best_index(np.array([1.0, 1, 0, 1]), thresholds) == 1
    assert best_index(np.array([1.0, 1, 1, 1]), thresholds) == 2


@pytest.mark.parametrize("metric", ["f1", "accuracy", "f1_macro", "f1_micro", "matthews", "loss"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_threshold_of_two_classes_maximizes_the_metric(metric, seed, settings, labelled):
    draw = np.random.default_rng(seed)
    truth = (draw.random(60) < 0.25).astype(int)
    p = np.clip(np.round(draw.normal(0.25 + 0.2 * truth, 0.15), 2), 0.01, 0.99)
    task, rows = Classification(settings(metric=metric), ["no", "yes"]), labelled(truth)
    threshold, name = task.best_threshold(two(p), rows)
    assert name == ("f1" if metric == "loss" else metric)
    measure = {
        "accuracy": accuracy_score, "matthews": matthews_corrcoef, "f1": f1_score,
        "f1_macro": lambda t, g: f1_score(t, g, average="macro", labels=np.unique([*t, *g])),
        "f1_micro": lambda t, g: f1_score(t, g, average="micro"),
    }[name]  # fmt: skip
    every = [measure(truth, (p >= t).astype(int)) for t in np.arange(0.005, 1, 0.01)]
    task.set_threshold(threshold)
    assert task.compute_metrics(two(p), rows)[name] == pytest.approx(max(every), abs=1e-12)
    assert np.abs(p - threshold).min() > 1e-3, "it lies between scores, not on one"


def test_a_threshold_without_gain_stays_at_one_half(settings, labelled):
    task = Classification(settings(), ["no", "yes"])
    p = np.array([0.1, 0.3, 0.6, 0.9])
    assert task.best_threshold(two(p), labelled([0, 0, 1, 1])) == (0.5, "accuracy")


def several(seed):
    draw = np.random.default_rng(seed)
    truth = (draw.random((25, 3)) < [0.1, 0.5, 0.3]).astype(np.float32)
    p = np.clip(np.round(draw.normal(0.3 + 0.2 * truth, 0.2), 2), 0.02, 0.98)
    return logit(p), truth


@pytest.mark.parametrize("seed", range(6))
def test_of_several_labels_micro_f1_is_the_best_of_all_combinations(seed, settings, labelled):
    logits, truth = several(seed)
    task, rows = MultiLabel(settings(), ["a", "b", "c"]), labelled(truth)
    threshold, name = task.best_threshold(logits, rows)
    assert (set(threshold), name) == ({"a", "b", "c"}, "f1_micro")
    task.set_threshold(threshold)
    actual = task.compute_metrics(logits, rows)["f1_micro"]
    levels_by_label = []
    for c in range(3):
        scores = 1 / (1 + np.exp(-logits[:, c]))
        levels = {((scores >= t).sum(), truth[scores >= t, c].sum())
                  for t in [0, *(np.unique(scores) + 1e-6)]}  # fmt: skip
        levels_by_label.append(levels)
    every = max(
        2 * sum(both for _, both in chosen) / (truth.sum() + sum(given for given, _ in chosen))
        for chosen in itertools.product(*levels_by_label)
    )
    assert actual == pytest.approx(every, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_other_metrics_maximize_the_f1_of_each_label(seed, settings, labelled):
    logits, truth = several(seed)
    truth[:, 0] = 0  # nobody has it: there is nothing to tune
    task, rows = MultiLabel(settings(metric="accuracy"), ["a", "b", "c"]), labelled(truth)
    threshold, name = task.best_threshold(logits, rows)
    assert (threshold["a"], name) == (0.5, "f1_macro")
    scores = 1 / (1 + np.exp(-logits))
    for c, label in enumerate("abc"):
        given = scores[:, c] >= threshold[label]
        every = [
            f1_score(truth[:, c], scores[:, c] >= t, zero_division=0)
            for t in np.arange(0.005, 1, 0.01)
        ]
        assert f1_score(truth[:, c], given, zero_division=0) == pytest.approx(max(every))


def test_answers_follow_the_threshold(settings):
    task = Classification(settings(), ["no", "yes"])
    logits = two(np.array([0.3, 0.45, 0.7]))
    assert [prediction["label"] for prediction in task.decode_predictions(logits, None)] == [
        "no",
        "no",
        "yes",
    ]
    task.set_threshold(0.4)
    actual = list(task.decode_predictions(logits, None))
    assert [prediction["label"] for prediction in actual] == ["no", "yes", "yes"]
    assert actual[1]["score"] == actual[1]["scores"]["yes"] == pytest.approx(0.45)


def test_refusals(settings):
    with pytest.raises(
        UsageError, match="classification with 3 classes does not support a threshold"
    ):
        Classification(settings(), ["a", "b", "c"]).set_threshold(0.4)
    with pytest.raises(UsageError, match="the thresholds are for a, d, but the labels are a, b"):
        MultiLabel(settings(), ["a", "b"]).set_threshold({"a": 0.1, "d": 0.2})
