from __future__ import annotations

import re
import signal

from bertft.training.callbacks.log_file import LogFile, describe_evaluation, describe_event
from bertft.training.events import Collapsed, Evaluated, Interrupted, Retried

STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  "


def lines(path):
    text = path.read_text(encoding="utf-8").splitlines()
    assert all(re.match(STAMP, line) for line in text)
    return [re.sub(STAMP, "", line) for line in text]


def test_events_in_words(tmp_path, events, clock):
    with LogFile(tmp_path / "log.txt", clock=clock) as log:
        for event in events():
            log(event)
        log(Interrupted(25, signal.SIGINT))
    assert lines(tmp_path / "log.txt") == [
        "training: 25 steps, 10 per epoch, 320 rows",
        "step 8  epoch 0.80  accuracy 0.5800 best  loss 0.4200  f1_macro 0.5700  in 0.5 s",
        "step 8: checkpoint step-8 saved",
        "step 16  epoch 1.60  accuracy 0.6600 best  loss 0.3400  f1_macro 0.6500  in 0.5 s",
        "step 16: checkpoint step-16 saved",
        "step 17 was not applied: loss or gradient was not finite (rows: a.csv:3, a.csv:5)",
        "step 25  epoch 2.50  accuracy 0.7500 best  loss 0.2500  f1_macro 0.7400  in 0.5 s",
        "step 25: checkpoint step-25 saved",
        "done after 25 steps",
        "interrupted by SIGINT after step 25",
    ]


def test_steps_are_reported_now_and_then(tmp_path, events, clock):
    with LogFile(tmp_path / "log.txt", every=10.0, clock=clock) as log:
        for event in events():
            clock.now += 1.0
            log(event)
    content = [line for line in lines(tmp_path / "log.txt") if "/25" in line]
    assert [line.partition("/")[0] for line in content] == ["step 9", "step 18"]
    assert "  loss " in content[0]
    assert content[0].endswith(" left")


def test_further_lines_are_indented_and_a_resumed_run_appends_to_its_file(tmp_path):
    path = tmp_path / "log.txt"
    with LogFile(path) as log:
        log.write_line("设置\nb")
    with LogFile(path) as log:
        log.write_line("not text: \udcff")
    text = path.read_text(encoding="utf-8").splitlines()
    assert text[0].endswith("  设置")
    assert text[1] == " " * 21 + "b"
    assert text[2].endswith(r"not text: \udcff")


def test_an_evaluation_has_no_metric_that_equals_another_one():
    values = {"accuracy": 0.9, "f1_micro": 0.9, "matthews": 0.8, "loss": 0.3, "A/f1": 0.7}
    event = Evaluated(8, 1.0, "validation", values, "accuracy", True, True, 0.5)
    assert describe_evaluation(event) == [
        "epoch 1.00", "accuracy 0.9000 best", "loss 0.3000", "matthews 0.8000", "in 0.5 s",
    ]  # fmt: skip


def test_a_collapse_and_what_follows_in_words():
    collapse = Collapsed(1214, "the loss is 0.7", "Set trainer.learning_rate=1e-3", 0.7, 0.7)
    assert describe_event(collapse) == (
        "step 1,214: the run may have collapsed: the loss is 0.7. Set trainer.learning_rate=1e-3"
    )
    texts = [describe_event(Retried(step, 1214, 0.25, None)) for step in (1000, 0)]
    assert texts == [
        f"step 1,214: training returns to {place} and continues with 0.25 of the learning rate"
        for place in ("the checkpoint of step 1,000", "the start")
    ]
