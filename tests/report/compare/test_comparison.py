"""Rows of a comparison: names, baselines, and why there is no difference."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bertft.errors import UsageError
from bertft.report.compare.comparison import compare_runs
from bertft.report.compare.table import comparison_notes, results_table
from bertft.report.result_rows import JobResult


def finished_run(method, value):
    metrics = {
        "best": {"metric": "accuracy", "value": value, "step": 1},
        "train": {"seconds": 1.0},
        "parameters": {"method": 8, "kept": 8},
    }
    split = {"fingerprint": "f", "rows": 4, "source": "x.csv", "skipped": {}}
    return SimpleNamespace(
        result=JobResult(Path(method), {"seed": "0", "method.name": method}, None, metrics),
        validation_fingerprint="f",
        validation_split=split,
        manifest={"hardware": {}},
    )


def statistics(rows, value):
    return SimpleNamespace(rows=np.array(rows), metric=lambda weights: np.full(len(weights), value))


RUNS = [finished_run("lora", 0.75), finished_run("head", 0.5)]


def test_the_difference_is_to_the_best_row():
    loaded = {"lora": statistics(range(4), 0.75), "head": statistics(range(4), 0.5)}
    comparison = compare_runs(RUNS, None, 10, lambda run: loaded[run.result.folder.name])
    best, other = comparison.rows
    assert (best.name, best.baseline, best.difference, best.reason) == ("lora", None, None, "")
    assert other.baseline == "lora" and other.difference.value == pytest.approx(-0.25)


def test_runs_that_used_other_rows_are_not_paired():
    """The validation rows are equal, but one run could not use all of them."""
    loaded = {"lora": statistics(range(4), 0.75), "head": statistics(range(3), 0.5)}
    comparison = compare_runs(RUNS, None, 10, lambda run: loaded[run.result.folder.name])
    other = comparison.rows[1]
    assert other.difference is None and "different validation rows" in other.reason
    (note,) = [note for note in comparison_notes(comparison) if "not computed" in note]
    assert note.startswith("head: difference to lora not computed: ")
    assert "head: 4 validation rows in training, 3 now" in comparison.notes


def test_the_column_of_parameters_names_the_kind():
    comparison = compare_runs(RUNS, None, 0, lambda run: None)
    table = results_table(comparison)
    assert "parameters" not in table.head
    assert "task head" in table.note and "method parameters 8" in table.note  # equal in all rows


def test_an_unknown_baseline_is_reported_with_the_names():
    with pytest.raises(UsageError, match=r"hed is not among .* \(names: lora, head\)") as caught:
        compare_runs(RUNS, "hed", 0, lambda _: None)
    assert "head" in caught.value.hint
