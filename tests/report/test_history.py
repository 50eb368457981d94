from __future__ import annotations

import json
import math

from bertft.report.context import read_history
from bertft.runs.run_folder import RunFolder


def test_records_become_series(tmp_path):
    step = {"learning_rates": {"head": 0.1}, "measures": {"budget": 4.0}}
    lines = [
        {"event": "started", "step": 0},
        {"event": "step", "step": 10, "loss": 0.5, **step},
        {"event": "skipped", "step": 11},
        {"event": "evaluated", "step": 15, "metrics": {"f1": None}},
        {"event": "step", "step": 20, "loss": None, **step},
        {"event": "finished", "step": 20, "reason": "patience"},
    ]
    run = RunFolder(tmp_path)
    run.metrics_log_path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    timing = {"event": "step", "step": 10, "tokens_per_second": 7.0}
    run.timings_log_path.write_text(f"{json.dumps(timing)}\n")
    history = read_history(run)
    assert history.loss[0] == [10, 20]
    assert history.loss[1][0] == 0.5 and math.isnan(history.loss[1][1])
    assert history.learning_rates == {"head": ([10, 20], [0.1, 0.1])}
    assert history.component_metrics["budget"] == ([10, 20], [4.0, 4.0])
    assert history.evaluations["f1"][0] == [15] and math.isnan(history.evaluations["f1"][1][0])
    assert history.tokens_per_second == ([10], [7.0])
    assert (history.skipped_steps, history.stop_reason) == (1, "patience")


def test_steps_that_a_retry_replaced_are_left_out(tmp_path):
    def step(number, loss):
        rates = {"learning_rates": {"head": loss}, "measures": {"budget": loss}}
        return {"event": "step", "step": number, "loss": loss, **rates}

    def evaluated(number, value):
        return {"event": "evaluated", "step": number, "metrics": {"f1": value}}

    retried = {"event": "retried", "step": 20, "collapsed_step": 40, "rate_factor": 0.5}
    lines = [
        step(10, 0.1), step(20, 0.2), evaluated(20, 0.3), step(30, 0.9), evaluated(30, 0.9),
        step(40, 0.9), {"event": "collapsed", "step": 40}, retried, step(30, 0.4), step(40, 0.5),
        evaluated(40, 0.6),
    ]  # fmt: skip
    timings = [
        {"event": "step", "step": number, "tokens_per_second": float(speed)}
        for number, speed in ((20, 1), (40, 2))
    ]
    run = RunFolder(tmp_path)
    run.metrics_log_path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    timings = [*timings, retried, {**timings[-1], "tokens_per_second": 3.0}]
    run.timings_log_path.write_text("".join(f"{json.dumps(line)}\n" for line in timings))
    history = read_history(run)
    expected = ([10, 20, 30, 40], [0.1, 0.2, 0.4, 0.5])
    assert history.loss == history.learning_rates["head"] == expected
    assert history.component_metrics["budget"] == expected
    assert history.evaluations["f1"] == ([20, 40], [0.3, 0.6])
    assert history.tokens_per_second == ([20, 40], [1.0, 3.0])
