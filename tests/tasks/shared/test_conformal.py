"""Prediction sets: the quantile and the sets by hand, and the coverage over 200 random splits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import betabinom, binom

from bertft.tasks.shared.conformal import (
    ConformalSets,
    conformal_quantile,
    conformal_rank,
    required_rows,
)
from bertft.tasks.shared.logits import sigmoid, softmax
from bertft.tasks.task import build_task

SPLITS = 200


@pytest.fixture
def make_task(settings):
    return lambda name, labels: build_task(settings(task=name), labels)


def sets_of(quantile, coverage=0.9):
    return ConformalSets(coverage, quantile, 9, 0, "")


@pytest.mark.parametrize(
    ("rows", "coverage", "rank"),
    [
        (9, 0.9, 9),
        (10, 0.9, 10),
        (19, 0.95, 19),
        (99, 0.95, 95),
        (100, 0.5, 51),
        (1, 0.5, 1),
        # In floats, 0.07 · 100 is 7.000000000000001, whose ceiling is 8.
        (99, 0.07, 7),
    ],
)
def test_the_rank_is_exact(rows, coverage, rank):
    assert conformal_rank(rows, coverage) == rank
    scores = np.random.default_rng(rows).permutation(rows) / rows
    assert conformal_quantile(scores, coverage) == sorted(scores.tolist())[rank - 1]


@pytest.mark.parametrize(
    ("coverage", "rows"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99), (0.975, 39)]
)
def test_the_smallest_number_of_rows(coverage, rows):
    assert required_rows(coverage) == rows
    assert conformal_rank(rows, coverage) == rows
    with pytest.raises(ValueError, match="too few"):
        conformal_rank(rows - 1, coverage)


def test_sets_of_classes_by_hand(make_task, labelled):
    task = make_task("classification", ["a", "b", "c"])
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.4, 0.35, 0.25], [0.34, 0.33, 0.33]]))
    features = labelled(np.array([0, 1, 2]))
    np.testing.assert_allclose(task.conformal_scores(logits, features), [0.3, 0.65, 0.67])
    task.set_conformal(sets_of(0.66))
    predictions = list(task.decode_predictions(logits.astype(np.float32), features))
    assert [row["prediction_set"] for row in predictions] == [["a"], ["a", "b"], ["a"]]
    assert [row["abstain"] for row in predictions] == [False, True, False]
    values = task.set_metrics(logits, features, np.array([True, True, True]))
    assert values == pytest.approx({"coverage": 2 / 3, "mean_set_size": 4 / 3, "abstention": 1 / 3})
    assert task.set_metrics(logits, features, np.array([True, False, False]))["coverage"] == 1
    task.set_conformal(sets_of(0.2))  # no class is as probable as 0.8: abstain
    predictions = list(task.decode_predictions(logits.astype(np.float32), features))
    assert predictions[0]["prediction_set"] == [] and predictions[0]["abstain"]
    assert task.output_fields == ("label", "score", "scores", "prediction_set", "abstain")
    task.set_conformal(None)
    assert task.output_fields == ("label", "score", "scores")
    assert "abstain" not in next(iter(task.decode_predictions(logits, features)))


def test_sets_of_labels_by_hand(make_task, labelled):
    task = make_task("multi_label", ["a", "b", "c"])
    probabilities = np.array([[0.9, 0.4, 0.1], [0.2, 0.6, 0.3], [0.1, 0.1, 0.1]])
    logits = np.log(probabilities) - np.log1p(-probabilities)
    features = labelled(np.array([[1, 1, 0], [0, 1, 1], [0, 0, 0]], np.float32))
    np.testing.assert_allclose(task.conformal_scores(logits, features), [0.6, 0.7, 0.0])
    task.set_conformal(sets_of(0.65))
    predictions = list(task.decode_predictions(logits, features))
    assert [row["prediction_set"] for row in predictions] == [["a", "b"], ["b"], []]
    assert [row["abstain"] for row in predictions] == [True, False, False]
    values = task.set_metrics(logits, features, np.ones(3, bool))
    assert values == pytest.approx({"coverage": 2 / 3, "mean_set_size": 1.0, "abstention": 1 / 3})


def test_intervals_by_hand(make_task, labelled):
    task = make_task("regression", None)
    logits = np.array([[1.0], [2.0], [4.0]], np.float32)
    features = labelled(np.array([1.25, 3.0, 3.5], np.float32))
    assert task.conformal_scores(logits, features).tolist() == [0.25, 1.0, 0.5]
    task.set_conformal(sets_of(0.5))
    intervals = [row["prediction_interval"] for row in task.decode_predictions(logits, features)]
    assert intervals == [[0.5, 1.5], [1.5, 2.5], [3.5, 4.5]]
    values = task.set_metrics(logits, features, np.ones(3, bool))
    assert values == {"coverage": pytest.approx(2 / 3), "interval_width": 1.0}


def synthetic(task, rows=400):
    """Logits that are right more often than not, and the labels."""
    generator = np.random.default_rng(7)
    if task == "regression":
        labels = generator.normal(size=rows)
        return (labels + generator.standard_t(3, size=rows))[:, None], labels
    logits = generator.normal(size=(rows, 4)) * 2
    if task == "multi_label":
        return logits, (generator.random((rows, 4)) < sigmoid(logits)).astype(np.float32)
    labels = [generator.choice(4, p=row) for row in softmax(logits)]
    return logits, np.array(labels)


@pytest.mark.parametrize("task_name", ["classification", "multi_label", "regression"])
def test_the_coverage_of_200_splits_is_beta_binomial(task_name, make_task, labelled):
    """Rows without ties in random halves: the exact distribution, also for a fixed set of rows."""
    names = None if task_name == "regression" else list("abcd")
    task, coverage = make_task(task_name, names), 0.9
    logits, labels = synthetic(task_name)
    features = labelled(labels)
    scores = task.conformal_scores(logits, features)
    generator = np.random.default_rng(3)
    calibration, test = 150, len(labels) - 150
    rank = conformal_rank(calibration, coverage)
    covered = []
    for _ in range(SPLITS):
        is_calibration = np.zeros(len(labels), bool)
        is_calibration[generator.permutation(len(labels))[:calibration]] = True
        task.set_conformal(sets_of(conformal_quantile(scores[is_calibration], coverage)))
        covered.append(task.set_metrics(logits, features, ~is_calibration)["coverage"] * test)
    counts = np.round(covered).astype(int)
    assert np.allclose(counts, covered)
    law = betabinom(test, rank, calibration + 1 - rank)
    # Rows without labels have equal scores, below the quantile: they change nothing here.
    low, high = law.ppf([0.05, 0.95])
    inside = int(((counts >= low) & (counts <= high)).sum())
    share = law.cdf(high) - law.cdf(low - 1)
    assert binom.cdf(inside, SPLITS, share) > 1e-3
    assert binom.sf(inside - 1, SPLITS, share) > 1e-3
    error = abs(counts.mean() - law.mean()) / (law.std() / math.sqrt(SPLITS))
    assert error < 3.5
    assert law.mean() / test >= coverage
