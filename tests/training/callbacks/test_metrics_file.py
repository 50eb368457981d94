"""metrics.jsonl is the same bytes for the same run, whole or in pieces; times lie apart."""

from __future__ import annotations

import json
import signal

import numpy as np
import pytest

from bertft.errors import DataError
from bertft.training.callbacks.metrics_file import MetricsFile
from bertft.training.events import (
    Checkpointed,
    Collapsed,
    Finished,
    Interrupted,
    Retried,
    Started,
)


def write(folder, events, log_every=10, state=None):
    """Write ``events``; the position and the state as JSON, as each save sees them."""
    folder.mkdir(exist_ok=True)
    saved = {}
    with MetricsFile(folder / "metrics.jsonl", folder / "timings.jsonl", log_every) as file:
        if state is not None:
            file.load_state_dict(json.loads(state))
        for event in events:
            if isinstance(event, Checkpointed):
                state = json.dumps(file.state_dict(), allow_nan=False, sort_keys=True)
                saved[event.step] = file.position(), state
            file(event)
    return saved


def read(folder, name="metrics"):
    text = (folder / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_lines_tell_of_the_steps_since_the_line_before(tmp_path, events):
    write(tmp_path, events())
    lines = [line for line in read(tmp_path) if line["event"] == "step"]
    assert [line["step"] for line in lines] == [10, 16, 20, 25]  # 16: before the skipped step
    assert [line["steps"] for line in lines] == [10, 6, 3, 5]
    first, last = lines[0], lines[-1]
    assert first["loss"] == sum(1 / n for n in range(1, 11)) / 10
    assert last["loss"] == pytest.approx(sum(1 / n for n in range(21, 26)) / 5, rel=1e-15)
    assert first["penalty"] == pytest.approx(0.01)
    assert (first["rows"], first["tokens"]) == (320, 9055)
    assert first["gradient_norm"] == pytest.approx(3.0)
    assert first["learning_rates"] == {"head": 1e-3, "low_rank": 1e-4}
    assert first["measures"] == {"budget": 288.0, "mean_rank": 8.2}
    assert first["epoch"] == 1.0


def test_every_other_event_is_a_line(tmp_path, events):
    write(tmp_path, events())
    lines = read(tmp_path)
    assert [line["event"] for line in lines] == [
        "started", "evaluated", "step", "evaluated", "step", "skipped", "step", "step",
        "evaluated", "finished",
    ]  # fmt: skip
    assert lines[0] == {
        "event": "started", "step": 0, "total_steps": 25, "steps_per_epoch": 10, "rows": 320
    }  # fmt: skip
    assert lines[1] == {
        "event": "evaluated", "step": 8, "epoch": 0.8, "split": "validation",
        "metric": "accuracy",
        "metrics": {"accuracy": 0.58, "f1_macro": 0.58 - 0.01, "loss": 1 - 0.58},
        "best": True, "counts": True, "input_free_loss": 0.69,
    }  # fmt: skip
    assert "input_free_loss" not in lines[3], "it is not known"
    assert lines[5] == {
        "event": "skipped", "step": 17, "reason": "loss or gradient was not finite", "rows": [1, 3]
    }  # fmt: skip
    assert lines[-1] == {"event": "finished", "step": 25, "reason": "done"}


def test_bytes_do_not_depend_on_time_or_place(tmp_path, events):
    write(tmp_path / "a", events(pace=0.5, folder="/somewhere"))
    write(tmp_path / "b", events(pace=0.1234, folder="/else/where"))
    first, second = (tmp_path / name / "metrics.jsonl" for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    assert (tmp_path / "a/timings.jsonl").read_bytes() != (
        tmp_path / "b/timings.jsonl"
    ).read_bytes()


def test_times_lie_in_the_other_file(tmp_path, events):
    write(tmp_path, events(pace=0.25))
    lines = read(tmp_path, "timings")
    steps = [line for line in lines if line["event"] == "step"]
    assert [line["step"] for line in steps] == [10, 16, 20, 25]
    assert steps[0]["seconds"] == 2.5
    assert (steps[0]["rows_per_second"], steps[0]["tokens_per_second"]) == (128.0, 3622.0)
    saved = [line for line in lines if line["event"] == "checkpointed"]
    assert [(line["step"], line["checkpoint"]) for line in saved] == [
        (8, "step-8"), (16, "step-16"), (25, "step-25")
    ]  # fmt: skip
    assert next(line for line in lines if line["event"] == "evaluated")["seconds"] == 0.25
    assert all(line["time"].endswith("+00:00") for line in lines)
    assert "somewhere" not in (tmp_path / "timings.jsonl").read_text(encoding="utf-8")


@pytest.mark.parametrize("log_every", [1, 3, 10, 100])
@pytest.mark.parametrize("at", [8, 16])
def test_killed_and_resumed_equals_uninterrupted(tmp_path, events, log_every, at):
    write(tmp_path / "whole", events(), log_every)
    whole = (tmp_path / "whole/metrics.jsonl").read_bytes()

    resumed = tmp_path / "resumed"
    cut = [event for event in events(pace=0.3) if event.step <= at + 4]  # killed 4 steps later
    (metrics, timings), state = write(resumed, cut, log_every)[at]
    with open(resumed / "metrics.jsonl", "ab") as file:
        file.write(b'{"event": "st')  # and in the middle of a line
    MetricsFile.truncate(resumed / "metrics.jsonl", metrics)
    MetricsFile.truncate(resumed / "timings.jsonl", timings)
    write(resumed, events(after=at), log_every, state)

    assert (resumed / "metrics.jsonl").read_bytes() == whole
    kinds = [(line["event"], line["step"]) for line in read(resumed, "timings")]
    assert kinds.count(("resumed", at)) == 1
    assert len([step for kind, step in kinds if kind == "step"]) == len(
        {step for kind, step in kinds if kind == "step"}
    )


def test_interrupted_and_resumed_equals_uninterrupted(tmp_path, events):
    """The signal's own checkpoint, at a step that saves none otherwise, leaves no trace."""
    write(tmp_path / "whole", events())
    whole = (tmp_path / "whole/metrics.jsonl").read_bytes()

    resumed = tmp_path / "resumed"
    stop = [event for event in events() if event.step <= 13]
    stop += [Checkpointed(13, resumed / "step-13"), Interrupted(13, signal.SIGTERM)]
    (metrics, timings), state = write(resumed, stop)[13]
    assert whole.startswith((resumed / "metrics.jsonl").read_bytes())
    assert read(resumed, "timings")[-1]["signal"] == "SIGTERM"
    MetricsFile.truncate(resumed / "metrics.jsonl", metrics)
    MetricsFile.truncate(resumed / "timings.jsonl", timings)
    write(resumed, events(after=13), state=state)
    assert (resumed / "metrics.jsonl").read_bytes() == whole


def test_a_run_that_stops_early_writes_its_last_steps(tmp_path, events):
    early = [event for event in events() if event.step <= 8]
    write(tmp_path, [*early, Finished(8, "patience")])
    assert [(line["event"], line["step"]) for line in read(tmp_path)][-2:] == [
        ("step", 8), ("finished", 8)
    ]  # fmt: skip


def test_not_a_number_is_null(tmp_path, a_step, an_evaluation):
    nan = float("nan")
    bad = a_step(
        1, gradient_norm=float("inf"), metrics={"budget": np.float32(nan), "n": np.int64(3)}
    )
    scores = an_evaluation(1, 0.5, metrics={"accuracy": nan, "loss": np.float64(0.5)})
    write(tmp_path, [Started(0, 2, 2, 2), bad, scores], log_every=1)
    _, step, evaluated = read(tmp_path)
    assert step["gradient_norm"] is None
    assert step["measures"] == {"budget": None, "n": 3}
    assert evaluated["metrics"] == {"accuracy": None, "loss": 0.5}
    assert b"NaN" not in (tmp_path / "metrics.jsonl").read_bytes()


def test_a_state_with_nan_goes_through_json(tmp_path, a_step):
    first = MetricsFile(tmp_path / "a", tmp_path / "b", 10)
    first(a_step(1, penalty=float("nan")))
    state = json.loads(json.dumps(first.state_dict(), allow_nan=False))
    second = MetricsFile(tmp_path / "c", tmp_path / "d", 2)
    second.load_state_dict(state)
    second(a_step(2))
    line = json.loads((tmp_path / "c").read_text(encoding="utf-8"))
    assert (line["penalty"], line["loss"], line["steps"]) == (None, 0.75, 2)
    first.close()
    second.close()


def test_position_is_what_lies_on_disk(tmp_path, events):
    metrics, timings = tmp_path / "metrics.jsonl", tmp_path / "timings.jsonl"
    with MetricsFile(metrics, timings, 10) as file:
        assert file.position() == (0, 0)
        for event in events():
            file(event)
            assert file.position() == (metrics.stat().st_size, timings.stat().st_size)


def test_a_file_that_was_cut_is_refused(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"one\n")
    with pytest.raises(DataError, match=r"metrics\.jsonl: the file has 4 bytes, .* had 9"):
        MetricsFile.truncate(path, 9)
    with pytest.raises(DataError, match="the file has 0 bytes"):
        MetricsFile.truncate(tmp_path / "absent.jsonl", 1)
    assert path.read_bytes() == b"one\n"


def test_a_file_that_was_edited_is_refused(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"another\n")
    with pytest.raises(DataError, match="first 4 bytes do not end with a line break"):
        MetricsFile.truncate(path, 4)
    assert path.read_bytes() == b"another\n"


def test_nothing_to_cut(tmp_path):
    MetricsFile.truncate(tmp_path / "absent.jsonl", 0)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"one\ntwo\n")
    MetricsFile.truncate(path, 0)
    assert path.read_bytes() == b""


@pytest.mark.parametrize(("name", "value"), [
    ("steps", None), ("steps", -1), ("steps", 1.5), ("rows", True), ("penalty", []), ("loss", "x"),
    ("line", 1e308), ("seconds", {}), ("tokens", 1 << 80), ("other", 3),
])  # fmt: skip
def test_a_state_of_another_form_is_refused(tmp_path, name, value):
    """A checkpoint may come from somebody else."""
    with MetricsFile(tmp_path / "m", tmp_path / "t", 10) as file:
        state = file.state_dict()
        with pytest.raises(DataError, match=f"invalid value for '{name}'"):
            file.load_state_dict({**state, name: value})
        file.load_state_dict({**state, "loss": None})


def test_a_retry_starts_the_lines_of_its_steps_again(tmp_path, a_step):
    events = [
        Started(0, 40, 10, 320), *map(a_step, range(1, 26)),
        Collapsed(25, "the loss is high", "Lower it", 0.7, 0.6),
        Retried(12, 25, 0.5, None), Checkpointed(12, tmp_path / "step-12"),
        *map(a_step, range(13, 31)),
    ]  # fmt: skip
    saved = write(tmp_path, events)
    lines = read(tmp_path)
    assert [(line["event"], line["step"]) for line in lines] == [
        ("started", 0), ("step", 10), ("step", 20), ("step", 25), ("collapsed", 25),
        ("retried", 12), ("step", 20), ("step", 30),
    ]  # fmt: skip
    assert lines[4] == {
        "event": "collapsed", "step": 25, "loss": 0.7, "input_free_loss": 0.6,
        "reason": "the loss is high",
    }  # fmt: skip
    assert lines[5] == {
        "event": "retried", "step": 12, "collapsed_step": 25, "rate_factor": 0.5
    }  # fmt: skip
    assert [line["steps"] for line in lines if line["event"] == "step"] == [10, 10, 5, 8, 10]
    assert json.loads(saved[12][1])["after"] == 12


def test_a_run_that_is_resumed_before_its_first_step_has_one_start(tmp_path, events):
    started = Started(0, 25, 10, 320)
    saved = write(tmp_path, [started, Checkpointed(0, tmp_path / "step-0")])
    (metrics, _), state = saved[0]
    assert metrics > 0
    write(tmp_path, [started, *events()[1:]], state=state)
    assert [line["event"] for line in read(tmp_path)].count("started") == 1
    assert [line["event"] for line in read(tmp_path, "timings")].count("resumed") == 1
