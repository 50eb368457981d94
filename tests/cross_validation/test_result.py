"""Intervals of means over folds, against a loop over resamples."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from bertft.config.data import DataConfig
from bertft.cross_validation.files import metric_table
from bertft.cross_validation.result import fold_mean_intervals, summarize_metric
from bertft.report.compare.bootstrap import confidence_interval, resample_weights
from bertft.tasks.task import build_task


def statistics_of(rows: int, share: float, seed: int):
    """A task and the statistics of a model that is right for ``share`` of ``rows``."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(2, size=rows)
    predicted = np.where(generator.random(rows) < share, labels, 1 - labels)
    task = build_task(DataConfig(name="x"), ["no", "yes"])
    logits = np.eye(2, dtype=np.float64)[predicted] * 3
    return task, task.row_statistics(logits, labels), (predicted == labels).astype(float)


def test_the_interval_is_that_of_the_mean_over_folds():
    parts = [statistics_of(40 + 10 * fold, 0.6 + fold / 10, fold) for fold in range(3)]
    task, sizes = parts[0][0], [len(part[1]) for part in parts]
    units = np.split(np.random.default_rng(9).permutation(sum(sizes)), np.cumsum(sizes)[:-1])
    intervals = fold_mean_intervals(task, [part[1] for part in parts], units, sum(sizes), draws=50)
    means = []
    for weights in np.concatenate(list(resample_weights(sum(sizes), 50))):
        accuracies = [
            np.average(part[2], weights=weights[unit])
            for part, unit in zip(parts, units, strict=True)
        ]
        means.append(np.mean(accuracies))
    assert intervals["accuracy"] == pytest.approx(confidence_interval(np.array(means)))
    low, high = fold_mean_intervals(task, [part[1] for part in parts], units, sum(sizes))[
        "accuracy"
    ]
    half_width = 1.96 * np.mean([part[2].var() / len(part[2]) for part in parts]) ** 0.5 / 3**0.5
    assert high - low == pytest.approx(2 * half_width, rel=0.1)


def test_rows_of_a_group_are_drawn_together():
    """Ten equal rows per group are as uncertain as one."""
    task, statistics, _ = statistics_of(40, 0.7, 1)
    alone = fold_mean_intervals(task, [statistics], [np.arange(40)], 40)
    groups = [np.arange(40).repeat(10)]
    grouped = fold_mean_intervals(task, [statistics.repeat(10, 0)], groups, 40)
    assert grouped["accuracy"] == pytest.approx(alone["accuracy"])
    as_rows = fold_mean_intervals(task, [statistics.repeat(10, 0)], [np.arange(400)], 400)
    assert np.ptp(as_rows["accuracy"]) < np.ptp(alone["accuracy"]) / 2


def test_without_statistics_or_with_an_undefined_metric():
    task, statistics, _ = statistics_of(40, 0.7, 1)
    empty = np.zeros((0, 0))
    assert fold_mean_intervals(task, [statistics, empty], [np.arange(40), np.arange(0)], 40) == {}
    one = [statistics, statistics[:1]]  # a resample without the only row of a fold
    assert fold_mean_intervals(task, one, [np.arange(40), np.array([40])], 41) == {}


def test_a_metric_that_is_undefined_in_a_fold_has_no_mean():
    """ROC-AUC, for example, in a fold without a positive: metrics.json has null."""
    defined = summarize_metric("accuracy", [0.5, 0.7, 0.9], (0.6, 0.8))
    assert (defined.mean, defined.std) == pytest.approx((0.7, 0.2))
    undefined = summarize_metric("roc_auc", [None, 0.7, 0.9], None)
    assert math.isnan(undefined.mean) and math.isnan(undefined.std)
    nowhere = summarize_metric("average_precision", [None, None, None], None)
    result = SimpleNamespace(
        metrics=[defined, undefined, nowhere],
        repeats=1,
        fold_count=3,
        schema=SimpleNamespace(group_field=None),
    )
    table = metric_table(result)
    assert table.rows[1] == ["roc_auc", None, None, "–", 0.7, 0.9]
    assert table.rows[2] == ["average_precision", None, None, "–", None, None]
    assert table.note.endswith("undefined in a fold: roc_auc, average_precision.")
