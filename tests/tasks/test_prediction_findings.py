"""Findings on predictions: models that ignore the texts, thresholds that are far from the best."""

from __future__ import annotations

import numpy as np
import pytest

from bertft.tasks.task import build_task


class Table:
    """Features with one row per label."""

    def __init__(self, labels):
        self.columns = {"labels": np.asarray(labels), "row": np.arange(len(labels))}

    def __len__(self):
        return len(self.columns["labels"])

    def read_column(self, name):
        return self.columns[name]


def kinds(task, logits, labels):
    return [finding.kind for finding in task.prediction_findings(logits, Table(labels))]


def test_one_predicted_class(settings):
    task = build_task(settings(), ["bad", "good"])
    logits = np.float32([[0.0, 1.0], [0.2, 0.9], [-1.0, 3.0], [0.0, 0.1]])
    (finding,) = task.prediction_findings(logits, Table([0, 1, 1, 1]))
    assert finding.message == (
        "All 4 validation rows are predicted as 'good', which is right for 75.0%"
    )
    assert (finding.count, finding.total) == (4, 4)
    assert kinds(task, logits, [1, 1, 1, 1]) == []  # there is only one class to predict
    assert kinds(task, np.float32([[1, 0], *logits[1:]]), [0, 1, 1, 1]) == []


def test_a_tuned_threshold_decides_what_is_predicted(settings):
    task = build_task(settings(), ["bad", "good"])
    logits = np.float32([[0.0, 1.0], [0.0, 0.5], [0.0, 3.0]])
    assert kinds(task, logits, [0, 1, 1]) == ["one_predicted_class"]
    task.set_threshold(0.7)
    assert kinds(task, logits, [0, 1, 1]) == []


@pytest.mark.parametrize(("spread", "expected"), [(0.001, ["constant_output"]), (1.0, [])])
def test_constant_numbers(settings, spread, expected):
    task = build_task(settings(task="regression"), None)
    labels = np.linspace(0, 5, 50, dtype=np.float32)
    logits = (2.5 + spread * np.sin(np.arange(50)))[:, None].astype(np.float32)
    assert kinds(task, logits, labels) == expected
    assert kinds(task, logits, np.full(50, 2.0, np.float32)) == []


def test_no_label_and_better_thresholds(settings):
    task = build_task(settings(task="multi_label"), ["toxic", "obscene"])
    labels = np.float32([[1, 0], [1, 1], [0, 0], [0, 0]])
    logits = np.float32([[-2, -4], [-1.9, -3], [-5, -5], [-6, -5]])
    assert kinds(task, logits, labels) == ["no_predicted_label", "thresholds_far_from_best"]
    hint = list(task.prediction_findings(logits, Table(labels)))[1]
    assert "f1_micro is 0.0000 with the threshold 0.5 and 1.0000 with the best" in hint.message
    assert (hint.count, hint.total, hint.advice) == (2, 2, "Set tune_threshold=true")
    task.set_threshold({"toxic": 0.1, "obscene": 0.03})
    assert kinds(task, logits, labels) == []
    task.set_threshold(0.5)
    assert kinds(task, np.where(labels > 0, 3, -3).astype(np.float32), labels) == []
    assert kinds(task, np.full((4, 2), np.nan, np.float32), labels) == []
