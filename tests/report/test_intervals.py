from __future__ import annotations

import numpy as np
import pytest

from bertft.config.data import DataConfig
from bertft.report.intervals import DRAWS, metric_intervals, split_intervals
from bertft.tasks.task import build_task


class Table:
    """Features with one row per label."""

    def __init__(self, labels):
        self.columns = {"labels": np.asarray(labels), "row": np.arange(len(labels))}

    def __len__(self):
        return len(self.columns["labels"])

    def read_column(self, name):
        return self.columns[name]


def classification(rows: int, seed: int = 0):
    """A task, the logits of a model that is right for 80 % of ``rows``, and their labels."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(2, size=rows)
    predicted = np.where(generator.random(rows) < 0.8, labels, 1 - labels)
    logits = np.eye(2, dtype=np.float32)[predicted] * 3
    return build_task(DataConfig(name="x"), ["no", "yes"]), logits, Table(labels)


def test_the_interval_of_the_accuracy_is_the_binomial_one():
    task, logits, table = classification(500)
    low, high = metric_intervals(task, logits, table)["accuracy"]
    accuracy = task.compute_metrics(logits, table)["accuracy"]
    half_width = 1.96 * np.sqrt(accuracy * (1 - accuracy) / 500)
    assert DRAWS >= 1000
    assert low == pytest.approx(accuracy - half_width, abs=0.008)
    assert high == pytest.approx(accuracy + half_width, abs=0.008)


def test_the_draws_have_a_seed():
    task, logits, table = classification(60)
    assert metric_intervals(task, logits, table) == metric_intervals(task, logits, table)
    other = metric_intervals(task, logits, table, seed=1)
    assert other != metric_intervals(task, logits, table)


def test_without_outputs_or_with_nan_there_is_no_interval():
    task, logits, table = classification(60)
    assert metric_intervals(task, None, table) == {}
    assert metric_intervals(task, np.full_like(logits, np.nan), table) == {}
    assert split_intervals(task, {}, {"validation": table}) == {}
    one = metric_intervals(task, logits[:1], Table(table.columns["labels"][:1]))
    assert one == {}


def test_a_metric_that_is_equal_in_every_resample_has_no_interval():
    """Accuracy 1 on 20 rows does not mean that the accuracy is certain."""
    labels = np.arange(20) % 2
    task, logits = classification(20)[0], np.eye(2, dtype=np.float32)[labels] * 3
    logits[0] *= 2
    assert task.compute_metrics(logits, Table(labels))["accuracy"] == 1
    assert set(metric_intervals(task, logits, Table(labels))) == {"loss"}
