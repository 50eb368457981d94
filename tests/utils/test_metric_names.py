from __future__ import annotations

from bertft.utils.metric_names import distinct_metrics, order_metrics, overall_metrics


def test_the_selection_metric_comes_first():
    assert order_metrics(["a", "b", "a"], "b") == ["b", "a"]
    metrics = {"loss": 0.4, "accuracy": 0.9, "PER/f1": 0.5}
    assert overall_metrics(metrics, "accuracy") == ["accuracy", "loss"]


def test_equal_metrics_are_shown_once():
    single = ["accuracy", "f1", "f1_macro", "f1_micro", "matthews", "loss"]
    assert distinct_metrics(single) == ["accuracy", "f1", "f1_macro", "matthews", "loss"]
    chosen = ["f1_micro", "accuracy", "matthews", "loss"]  # the selection metric is the first
    assert distinct_metrics(chosen) == ["f1_micro", "matthews", "loss"]
    assert distinct_metrics(["pearson", "mse", "loss"]) == ["pearson", "mse"]
    several = ["f1_micro", "f1_macro", "f1_samples", "accuracy", "loss"]  # of multi_label
    assert distinct_metrics(several) == several
