"""data.metric=package.module:function: imported by name, called with labels and scores."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss, mean_absolute_error, roc_auc_score

from bertft.errors import UsageError
from bertft.tasks.shared.metric_function import MetricFunction, load_metric_function
from bertft.tasks.task import build_task

ROC_AUC = "sklearn.metrics:roc_auc_score"


class Table:
    """Features with one row per label."""

    def __init__(self, labels):
        self.columns = {"labels": np.asarray(labels), "row": np.arange(len(labels))}

    def __len__(self):
        return len(self.columns["labels"])

    def read_column(self, name):
        return self.columns[name]


def all_metrics(task, name, logits, labels):
    task.metric_function = load_metric_function(name)
    return task.compute_all_metrics(logits, Table(labels))[name]


def test_two_classes_have_the_probability_of_the_second(settings):
    logits = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    labels = np.arange(40) % 2
    task = build_task(settings(metric=ROC_AUC, metric_direction="higher"), ["no", "yes"])
    expected = roc_auc_score(labels, logits[:, 1] - logits[:, 0])
    assert all_metrics(task, ROC_AUC, logits, labels) == pytest.approx(expected)
    assert task.metric == ROC_AUC and task.is_better(0.8, 0.7)


def test_more_classes_have_a_row_of_probabilities(settings):
    name = "sklearn.metrics:log_loss"
    logits = np.random.default_rng(1).normal(size=(30, 3)).astype(np.float32)
    labels = np.arange(30) % 3
    task = build_task(settings(metric=name, metric_direction="lower"), ["a", "b", "c"])
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert all_metrics(task, name, logits, labels) == pytest.approx(
        log_loss(labels, probabilities), abs=1e-6
    )
    assert task.is_better(0.7, 0.8) and not task.is_better(0.9, 0.8)


def test_numbers_and_several_labels(settings):
    name = "sklearn.metrics:mean_absolute_error"
    values = np.float32([[1.0], [2.0], [4.0]])
    task = build_task(settings(task="regression", metric=name, metric_direction="lower"), None)
    actual = all_metrics(task, name, values, np.float32([1.5, 2, 3]))
    assert actual == mean_absolute_error([1.5, 2, 3], [1, 2, 4])
    task = build_task(settings(task="multi_label", metric=ROC_AUC), ["x", "y"])
    labels = np.float32([[1, 0], [0, 1], [1, 1], [0, 0]])
    logits = np.random.default_rng(2).normal(size=(4, 2)).astype(np.float32)
    assert all_metrics(task, ROC_AUC, logits, labels) == roc_auc_score(labels, logits)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:f", "no_such_module cannot be imported .ModuleNotFoundError"),
        ("sklearn.metrics:roc_auc_scor", "Did you mean sklearn.metrics:roc_auc_score"),
        ("sklearn.metrics:__doc__", "has no function __doc__"),
    ],
)
def test_functions_that_do_not_exist(name, message):
    with pytest.raises(UsageError, match=message):
        load_metric_function(name)


def test_modules_of_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "my_metric_module.py").write_text("def cost(labels, scores): return 3\n")
    (tmp_path / "broken_metric_module.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    assert load_metric_function("my_metric_module:cost")(np.zeros(1), np.zeros(1)) == 3.0
    with pytest.raises(UsageError, match="ZeroDivisionError: division by zero"):
        load_metric_function("broken_metric_module:cost")


@pytest.mark.parametrize("value", ["0.5", None, True, np.zeros(2), (0.5,), 1j])
def test_only_numbers_are_metrics(value):
    function = MetricFunction("m:f", lambda labels, scores: value)
    with pytest.raises(UsageError, match="not a number"):
        function(np.zeros(3), np.zeros(3))


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.25), np.array(2.0), np.int64(3)])
def test_any_real_number_is_one(value):
    assert MetricFunction("m:f", lambda labels, scores: value)(np.zeros(3), np.zeros(3)) == value


def test_the_error_of_a_function_has_the_shapes():
    def fail(labels, scores):
        raise ValueError("unknown format\nmore")

    with pytest.raises(UsageError) as error:
        MetricFunction("m:f", fail)(np.zeros(3, np.int64), np.zeros((3, 2)))
    assert "raises ValueError: unknown format" in str(error.value)
    assert r"labels int64 [3] and scores float64 [3, 2]" in str(error.value)
    assert "\n" not in str(error.value)
