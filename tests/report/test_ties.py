from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
import pytest

from bertft.report import ties
from bertft.report.compare import row_statistics
from bertft.report.result_rows import JobResult, group_results
from bertft.report.ties import is_within_seed_noise, mark_ties


def job(value, folder=Path("nowhere"), **settings):
    metrics = {
        "best": {"metric": "accuracy", "value": value, "step": 1},
        "train": {"seconds": 1.0, "peak_memory_bytes": None},
        "parameters": {"method": 7},
    }
    return JobResult(folder, {name: str(value) for name, value in settings.items()}, None, metrics)


def rows(first, second):
    jobs = [job(value, rank=2, seed=seed) for seed, value in enumerate(first)]
    return group_results(
        jobs + [job(value, rank=8, seed=seed) for seed, value in enumerate(second)]
    )


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([0.90, 0.91, 0.92], [0.91, 0.92, 0.93], True),
        ([0.50, 0.51, 0.52], [0.91, 0.92, 0.93], False),
        ([0.5, 0.5], [0.5, 0.5], True),
        ([0.5, 0.5], [0.6, 0.6], False),
        ([0.5], [0.6, 0.61], None),
    ],
)
def test_the_spread_over_seeds(first, second, expected):
    marked = mark_ties(rows(first, second))
    assert [row.tie for row in marked if not row.best] == [expected]
    assert [row.tie for row in marked if row.best] == [None]


def test_the_limit_is_that_of_welch():
    scipy_stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(0)
    for _ in range(50):
        first, second = (generator.normal(0.5, 0.1, 4).tolist() for _ in range(2))
        one, two = rows(first, [value + 0.15 for value in second])
        p = scipy_stats.ttest_ind(first, [v + 0.15 for v in second], equal_var=False).pvalue
        if abs(p - 0.05) > 0.02:  # the table has whole degrees of freedom
            assert is_within_seed_noise(one, two) is bool(p > 0.05)
    assert statistics.fmean(first) == pytest.approx(one.mean)


class Statistics:
    """Correct answers of one run; accuracy is their weighted mean."""

    fingerprint = "same"

    def __init__(self, correct):
        self.correct, self.rows = np.array(correct, float), np.arange(len(correct))

    def metric(self, weights):
        return weights @ self.correct / weights.sum(1)


@pytest.mark.parametrize(("flips", "expected"), [(3, True), (60, False)])
def test_row_statistics_come_before_the_seeds(tmp_path, monkeypatch, flips, expected):
    answers = {"a": [1] * 150 + [0] * 50, "b": [1] * (150 - flips) + [0] * (50 + flips)}
    for name in answers:
        (tmp_path / name).mkdir()
        (tmp_path / name / "row_scores.npz").touch()
    monkeypatch.setattr(
        row_statistics, "read_row_statistics", lambda run: Statistics(answers[run.path.name])
    )
    jobs = [job(np.mean(answers[name]), tmp_path / name, method=name) for name in answers]
    marked = mark_ties(group_results(jobs))
    assert [row.tie for row in marked] == [None, expected]
    (tmp_path / "b" / "row_scores.npz").unlink()
    assert [row.tie for row in mark_ties(group_results(jobs))] == [None, None]


def test_rows_of_other_data_do_not_tie():
    one, two = (job(0.5, data=name, seed=0) for name in "ab")
    marked = mark_ties(group_results([one, two]))
    assert [row.tie for row in marked] == [None, None] and all(row.best for row in marked)
    assert not ties.is_comparable(*marked)
