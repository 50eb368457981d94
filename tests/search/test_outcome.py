"""The results of a run at the rungs, from the files that it writes."""

from __future__ import annotations

import json

import pytest

from bertft.errors import SweepError
from bertft.runs.run_folder import LOCKED
from bertft.search.halving import RungResult
from bertft.search.outcome import read_results

PARAMETERS = dict.fromkeys(("total", "trainable", "head", "method", "kept", "exported"), 9)


def make_run(folder, *evaluations, best=None, error=None, total=8, input_free_loss=None):
    """A run of ``total`` steps with ``(step, accuracy, loss)``; ``best``: value and step."""
    further = {} if input_free_loss is None else {"input_free_loss": input_free_loss}
    lines = [{"event": "started", "step": 0}]
    lines += [
        {"event": "evaluated", "step": step, "metric": "accuracy",
         "metrics": {"accuracy": value, "loss": loss}, **further}
        for step, value, loss in evaluations
    ]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (folder / "manifest.json").write_text(json.dumps({"total_steps": total}))
    (folder / "job.json").write_text(json.dumps({"error": error}))
    if best is not None:
        value, step = best
        metrics = {
            "best": {"metric": "accuracy", "value": value, "step": step},
            "train": {"seconds": 1.0, "rows_per_second": 1.0, "tokens_per_second": 1.0, "steps": 8},
            "parameters": PARAMETERS,
        }
        (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def test_a_rung_has_the_best_value_until_then(tmp_path):
    make_run(tmp_path, (1, 0.5, 0.9), (2, 0.7, 0.8), (3, 0.7, 0.6), (4, 0.6, 0.5))
    results = [RungResult(0.5, 0.9), RungResult(0.7, 0.8), RungResult(0.7, 0.6)]
    assert read_results(tmp_path, [1 / 8, 1 / 4, 1 / 2], False) == (results, None)
    assert read_results(tmp_path, [1 / 2], True)[0] == [RungResult(0.5, 0.9)]


def test_evaluations_of_a_model_that_knows_nothing_yet_count_by_their_loss(tmp_path):
    evaluations = (1, 0.6, 1.9), (2, 0.5, 0.7), (3, 0.4, 0.6), (4, 0.45, 0.5)
    make_run(tmp_path, *evaluations, best=(0.45, 4), input_free_loss=0.69)
    results = [
        RungResult(0.6, 1.9, is_informed=False),
        RungResult(0.5, 0.7, is_informed=False),
        RungResult(0.45, 0.5),
        RungResult(0.45, 0.5),
    ]
    assert read_results(tmp_path, [1 / 8, 1 / 4, 1 / 2, 1], False) == (results, None)
    assert read_results(tmp_path, [1 / 2], True)[0] == [RungResult(0.4, 0.6)]


def test_the_last_rung_has_the_result_of_the_run(tmp_path):
    """Which may differ: evaluations before pruning has ended do not count, calibration changes."""
    make_run(tmp_path, (4, 0.9, 0.5), (8, 0.8, 0.4), best=(0.8, 8))
    results = [RungResult(0.9, 0.5), RungResult(0.8, 0.4)]
    assert read_results(tmp_path, [1 / 2, 1], False) == (results, None)


def test_a_run_that_ended_early_has_reached_every_rung(tmp_path):
    make_run(tmp_path, (1, 0.9, 0.5), (2, 0.8, 0.4), best=(0.9, 1))
    results = [RungResult(0.9, 0.5)] * 4
    assert read_results(tmp_path, [1 / 8, 1 / 4, 1 / 2, 1], False) == (results, None)


def test_a_failed_run_and_one_without_a_metric(tmp_path):
    make_run(tmp_path, (1, 0.9, 0.5), error="the loss was NaN")
    assert read_results(tmp_path, [1 / 8], False) == ([], "the loss was NaN")
    make_run(tmp_path, (1, None, None))
    assert read_results(tmp_path, [1 / 8], False) == (
        [],
        "no evaluation up to step 1 has a finite metric",
    )
    make_run(tmp_path, best=(None, None))
    assert read_results(tmp_path, [1], False)[1] == "there is no validation metric to rank it by"
    (tmp_path / "metrics.json").unlink()
    (tmp_path / "metrics.jsonl").write_text("{")
    assert "its files cannot be read" in read_results(tmp_path, [1 / 8], False)[1]


@pytest.mark.parametrize(("fraction", "error"), [(1 / 2, None), (1, None), (1 / 8, LOCKED)])
def test_a_run_that_did_not_get_there_is_no_failed_trial(tmp_path, fraction, error):
    make_run(tmp_path, (1, 0.9, 0.5), (2, 0.9, 0.5), error=error)
    with pytest.raises(SweepError, match=r"did not finish|another process is writing"):
        read_results(tmp_path, [fraction], False)


def test_a_metric_that_is_nan_later_does_not_end_the_search(tmp_path):
    make_run(tmp_path, (1, 0.9, 0.5), (2, None, None))
    results = [RungResult(0.9, 0.5)] * 2
    assert read_results(tmp_path, [1 / 8, 1 / 4], False) == (results, None)
