"""A collapsed run is noticed, stopped or retried; a retried run goes on with the same bits."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from bertft.config.trainer import TrainerConfig
from bertft.errors import CollapseError
from bertft.tasks.shared.input_free import InputFreeLosses
from bertft.training import collapse
from bertft.training.checkpoint_state import capture_state, restore_state
from bertft.training.collapse import CollapseMonitor, check_state
from bertft.training.events import Checkpointed, Collapsed, Evaluated, Retried, StepCompleted
from bertft.training.step import Schedule

ROWS = np.array([0, 1])
CONSTANT = "All 24 validation rows are predicted as 'pos'"


class Levels:
    """A task with the given losses of the input-free prediction, one per row."""

    def __init__(self, levels):
        self.levels = levels

    def input_free_losses(self, features):
        if self.levels is None:
            return None
        return InputFreeLosses(np.array(self.levels), np.ones(len(self.levels), int))


def make_monitor(levels=(0.7, 0.7), *, total=400, warmup=0.1, state=None, **changes):
    """Warm-up ends after 40 steps, so that a collapse is noticed after 140 at the earliest."""
    return CollapseMonitor(
        Levels(levels), None, Schedule(total, warmup, "linear"), TrainerConfig(**changes),
        {"trainer.learning_rate": 0.25}, state or {},
    )  # fmt: skip


def feed(monitor, losses, after=0, rows=lambda step: ROWS):
    """Record steps with ``losses``; the collapses that are noticed."""
    noticed = []
    for step, loss in enumerate(losses, after + 1):
        monitor.record_step(step, loss, rows(step))
        if collapse := monitor.notice(step):
            noticed.append(collapse)
    return noticed


def kinds(monitor):
    return [finding.kind for finding in monitor.findings(400)]


def test_a_loss_at_the_level_is_noticed_once():
    monitor = make_monitor()
    (found,) = feed(monitor, [0.71] * 200)
    assert (found.step, found.finding) == (140, "")
    assert found.loss == pytest.approx(0.71) and found.input_free_loss == pytest.approx(0.7)
    assert found.describe() == (
        "the training loss of the last 50 steps is 0.7100, at the level of the best prediction"
        " that ignores the input (0.7000)"
    )
    (finding,) = monitor.findings(400)
    assert (
        finding.kind == "training_collapsed" and "before step 140: the training" in finding.message
    )
    assert finding.advice.startswith("Set trainer.learning_rate=0.125 (half of the present rate)")
    assert not monitor.must_respond, "it is only a warning"


@pytest.mark.parametrize(("loss", "expected"), [(0.694, [140]), (0.692, [])])
def test_from_99_percent_of_the_level(loss, expected):
    assert [found.step for found in feed(make_monitor(), [loss] * 400)] == expected


def test_the_mean_of_50_steps_counts():
    losses = [0.2] * 200 + [0.7] * 200  # all steps of the window must be at the level
    assert [found.step for found in feed(make_monitor(), losses)] == [250]
    losses = [0.2] * 200 + [0.9] * 200  # a higher loss needs fewer
    assert [found.step for found in feed(make_monitor(), losses)] == [236]


def test_the_level_is_that_of_the_same_rows():
    """Rare rows have a high loss without the input: the share of them in 50 steps varies."""
    levels = [0.1, 4.0]

    def rows(step):
        return np.array([0, 0, 0, step % 3 == 0 and 200 < step < 260], int)

    losses = [0.97 * np.mean([levels[row] for row in rows(step)]) for step in range(1, 401)]
    assert max(losses) > 5 * np.mean(losses)
    assert not feed(make_monitor(levels), losses, rows=rows)
    losses = [loss / 0.97 for loss in losses]
    assert [found.step for found in feed(make_monitor(levels), losses, rows=rows)] == [140]


def test_a_report_is_withdrawn_when_the_run_learns():
    monitor = make_monitor()
    assert len(feed(monitor, [0.7] * 200)) == 1
    assert not feed(monitor, [0.685] * 60, after=200)
    assert kinds(monitor) == ["training_collapsed"], "97.9 % of the level are not enough"
    assert not feed(monitor, [0.6] * 60, after=260)
    assert kinds(monitor) == []
    assert not feed(monitor, [0.7] * 80, after=320), "the progress says it once"
    assert kinds(monitor) == ["training_collapsed"]


def test_short_runs_and_labels_without_information_are_not_observed():
    monitor = make_monitor(total=110)
    assert not feed(monitor, [0.7] * 110) and monitor.state_dict() == {}
    assert not monitor.needs_evaluation()
    monitor = make_monitor([0.0, 0.0])  # one class: nothing is wrong with a loss of 0
    assert not feed(monitor, [0.0] * 400)
    monitor = CollapseMonitor(None, None, Schedule(400, 0.1, "linear"), TrainerConfig(), {}, {})
    assert not feed(monitor, [0.7] * 400), "a distillation without labels"


def test_without_a_level_an_evaluation_decides():
    monitor = make_monitor(None)
    assert monitor.needs_evaluation()
    monitor.record_evaluation(CONSTANT)
    (found,) = feed(monitor, [0.7] * 200)
    assert found.step == 140 and found.loss is None
    assert found.describe() == "all 24 validation rows are predicted as 'pos'"
    monitor.record_evaluation("")
    assert not feed(monitor, [0.7] * 10, after=200) and kinds(monitor) == []


@pytest.mark.parametrize(("loss", "expected"), [(0.65, [140]), (0.62, [])])
def test_an_evaluation_counts_unless_the_loss_shows_that_texts_matter(loss, expected):
    monitor = make_monitor()
    feed(monitor, [loss] * 60)
    assert monitor.needs_evaluation() is bool(expected)
    monitor.record_evaluation(CONSTANT)
    noticed = feed(monitor, [loss] * 300, after=60)
    assert [(found.step, found.finding) for found in noticed] == [
        (step, CONSTANT) for step in expected
    ]


def test_stop():
    monitor = make_monitor(on_collapse="stop")
    feed(monitor, [0.7] * 140)
    assert monitor.must_respond and not monitor.protected_steps
    with pytest.raises(CollapseError) as caught:
        monitor.start_retry()
    assert caught.value.status == 3
    assert str(caught.value) == (
        "step 140: the run has collapsed: the training loss of the last 50 steps is 0.7000, at the"
        " level of the best prediction that ignores the input (0.7000). Set"
        " trainer.learning_rate=0.125 (half of the present rate); if the loss never fell, train"
        " longer or raise the learning rate. To continue this run as it is, resume it with"
        " trainer.on_collapse=warn"
    )


def test_retries_return_to_the_last_good_checkpoint():
    monitor = make_monitor(on_collapse="retry", max_retries=2)
    monitor.record_checkpoint(0, None)
    assert monitor.protected_steps == {0}
    feed(monitor, [0.5] * 60)
    monitor.record_checkpoint(60, 40)
    feed(monitor, [0.5] * 20, after=60)
    monitor.record_checkpoint(80, 80)  # that of step 60 has not proved to be good yet
    assert monitor.protected_steps == {0, 60, 40}
    feed(monitor, [0.5] * 40, after=80)
    assert monitor.protected_steps == {60, 40}
    monitor.record_checkpoint(120, 100)  # the run collapses after it
    assert monitor.protected_steps == {60, 40, 120, 100}
    (found,) = feed(monitor, [0.7] * 70, after=120)
    assert found.step == 169 and monitor.must_respond
    assert monitor.start_retry() == 60
    assert monitor.protected_steps == {60, 40} and monitor.rate_factor == 0.5
    assert not monitor.must_respond
    # 100 steps after the return at the earliest, and with steps after it alone
    (found,) = feed(monitor, [0.7] * 120, after=60)
    assert found.step == 160
    assert monitor.start_retry() == 60 and monitor.rate_factor == 0.25
    assert monitor.advice.startswith("Set trainer.learning_rate=0.0312")
    (finding,) = monitor.findings(400)
    assert finding.kind == "training_retried"
    assert finding.message == (
        "The run collapsed 2 times. It went back to step 60 from step 160 and continued with 0.25"
        " of the learning rate"
    )
    feed(monitor, [0.7] * 120, after=60)
    with pytest.raises(CollapseError, match=r"has collapsed \(after 2 retries\): the training"):
        monitor.start_retry()


def test_a_checkpoint_is_good_after_an_evaluation_if_there_is_no_level():
    monitor = make_monitor(None, on_collapse="retry")
    monitor.record_checkpoint(0, None)
    for step, constant in ((20, ""), (40, ""), (60, CONSTANT), (80, CONSTANT)):
        monitor.record_evaluation(constant)
        monitor.record_checkpoint(step, step)
    assert monitor.protected_steps == {20, 80}, "a checkpoint and the next evaluation"
    (found,) = feed(monitor, [0.7] * 150)
    assert found.step == 140 and monitor.start_retry() == 20


def test_without_a_good_checkpoint_there_is_no_retry():
    """The run was resumed with on_collapse=retry after it had begun without."""
    monitor = make_monitor(on_collapse="retry")
    monitor.record_checkpoint(30, None)
    feed(monitor, [0.7] * 140)
    with pytest.raises(CollapseError, match="no good checkpoint is left to return to"):
        monitor.start_retry()


@pytest.mark.parametrize("at", [30, 70, 100, 139, 145, 170])
def test_a_restored_monitor_decides_likewise(at):
    losses = [0.3] * 90 + [0.7] * 90

    def record(monitor, after, until):
        noticed = []
        for step in range(after + 1, until + 1):
            noticed += feed(monitor, losses[step - 1 : step], after=step - 1)
            if step % 20 == 0:
                monitor.record_checkpoint(step, step)
        return noticed

    whole = make_monitor(on_collapse="retry")
    noticed = record(whole, 0, 180)
    first = make_monitor(on_collapse="retry")
    before = record(first, 0, at)
    state = json.loads(json.dumps(first.state_dict()))
    check_state(state)
    second = make_monitor(on_collapse="retry", state=state)
    assert before + record(second, at, 180) == noticed and len(noticed) == 1
    assert second.state_dict() == whole.state_dict()


@pytest.mark.parametrize(
    "change",
    [
        {"losses": [1]}, {"losses": [0.5]}, {"levels": None}, {"constant": 3}, {"noticed": 0},
        {"good": [1]}, {"good": [-1, None]}, {"candidate": [None, 3]}, {"retries": [[1, None]]},
        {"retries": 2}, {"collapse": {}}, {"unknown": 1},
        {"collapse": {"step": 3, "loss": None, "input_free_loss": None, "finding": ""}},
    ],
)  # fmt: skip
def test_a_state_that_cannot_be_is_refused(change):
    state = make_monitor().state_dict()
    check_state(state)
    check_state({})
    with pytest.raises(ValueError, match="invalid state of the collapse monitor"):
        check_state({**state, **change})


# With the trainer

RATE = 0.3  # so high that the tanh of the pooler saturates
TOTAL = 60


class Checkpoints:
    """In memory, what a run folder has of each step, and what a run resumes from."""

    def __init__(self, stepper):
        self.stepper, self.saved, self.protected = stepper, {}, {}

    def install(self, loop):
        self.loop = loop
        loop.save_checkpoint, loop.return_to = self.save, self.return_to

    def save(self, state, best):
        captured = copy.deepcopy(capture_state(self.stepper, state, {}))
        captured["progress"] = json.loads(json.dumps(captured["progress"]))
        weights = [parameter.detach().clone() for parameter in self.stepper.parameters]
        self.saved[state.step] = (weights, captured)
        self.protected.setdefault(state.step, self.loop.collapse.protected_steps)
        return Path(f"step-{state.step}")

    def load(self, step, stepper):
        weights, captured = self.saved[step]
        with torch.no_grad():
            for parameter, value in zip(stepper.parameters, weights, strict=True):
                parameter.copy_(value)
        return restore_state(copy.deepcopy(captured), stepper)[0]

    def return_to(self, step):
        state = self.load(step, self.stepper)
        self.saved = {number: saved for number, saved in self.saved.items() if number <= step}
        return state


@pytest.fixture
def run(stepper, everything, drive, monkeypatch):
    """``run(**settings)``: a run that collapses at ``RATE``, with its checkpoints.

    It is noticed from 40 steps on by the loss of 20 steps: less than in earnest, to save time.
    """
    monkeypatch.setattr(collapse, "GRACE_STEPS", 40)
    monkeypatch.setattr(collapse, "WINDOW", 20)

    def make(
        progress_of=None, at=None, rate=RATE, total=TOTAL, until=lambda event: False, **changes
    ):  # fmt: skip
        made = stepper(layers=1, component=everything(rate=rate), dropout=0.1)
        checkpoints = Checkpoints(made)
        progress = None
        if progress_of is not None:
            checkpoints.saved = {
                step: saved for step, saved in progress_of.saved.items() if step <= at
            }
            progress = checkpoints.load(at, made)
        driven = drive(made, total, progress=progress, evaluate_every=10, **changes)
        checkpoints.install(driven.loop)
        driven.checkpoints, driven.stepper, driven.error = checkpoints, made, None
        try:
            for event in driven.loop.run():
                driven.events.append(event)
                if until(event):
                    break
        except CollapseError as error:
            driven.error = error
        return driven

    return make


def test_a_healthy_run_has_no_event(run):
    made = run(rate=1e-2, on_collapse="retry")
    assert made.error is None and not made.of(Collapsed) and not made.of(Retried)
    assert not list(made.loop.collapse.findings(TOTAL))
    assert made.checkpoints.saved.keys() >= {0, TOTAL}, "the start is saved"
    assert made.checkpoints.protected[TOTAL] != {0}, "later checkpoints proved to be good"


def test_a_warning(run):
    made = run()
    (event,) = made.of(Collapsed)
    assert event.step == 40 and event.loss > 0.99 * event.input_free_loss
    assert made.error is None and made.names[-1] == "Finished 60"
    assert 0 not in made.checkpoints.saved and not made.of(Retried)
    assert [finding.kind for finding in made.loop.collapse.findings(TOTAL)] == [
        "training_collapsed"
    ]
    # The level is that of the labels in the table.
    labels = made.loop.data.train.read_column("labels")
    share = np.bincount(labels) / len(labels)
    assert event.input_free_loss == pytest.approx(-(share * np.log(share)).sum(), rel=0.05)


def test_stopped_and_continued_on_request(run):
    made = run(on_collapse="stop")
    assert made.names[-3:] == ["Evaluated 40", "Collapsed 40", "Checkpointed 40"]
    assert made.error.status == 3 and made.error.where == "step 40"
    again = run(made.checkpoints, 40, on_collapse="stop")
    assert again.names == ["Started 40"] and str(again.error) == str(made.error)
    more = run(made.checkpoints, 40, on_collapse="warn")
    assert more.names[-1] == "Finished 60" and not more.of(Collapsed)


def test_retried_from_the_start_until_it_learns(run):
    made = run(on_collapse="retry", max_retries=9)
    retries = made.of(Retried)
    assert made.error is None and made.names[-1] == "Finished 60"
    assert len(made.of(Collapsed)) == len(retries) >= 2
    assert [event.rate_factor for event in retries] == [0.5**n for n in range(1, len(retries) + 1)]
    assert {event.step for event in retries} == {0}
    rates = [event.learning_rates["everything"] for event in made.of(StepCompleted)]
    assert max(rates[-TOTAL:]) <= RATE * retries[-1].rate_factor
    losses = [event.loss for event in made.of(StepCompleted)][-20:]
    assert np.mean(losses) < 0.9 * made.of(Collapsed)[0].input_free_loss
    # It equals a run with the last rate from the start: weights and progress.
    direct = run(rate=RATE * retries[-1].rate_factor, on_collapse="retry")
    for one, other in zip(made.stepper.parameters, direct.stepper.parameters, strict=True):
        assert torch.equal(one, other)
    left, right = (asdict(each.loop.state) for each in (made, direct))
    for progress in (left, right):
        assert progress.pop("seconds") > 0
        progress.pop("collapse")
    assert left == right


def test_too_many_retries_end_the_run_with_a_checkpoint(run):
    made = run(on_collapse="retry", max_retries=1, rate=20.0)
    assert [type(event) for event in made.events[-2:]] == [Collapsed, Checkpointed]
    assert len(made.of(Retried)) == 1
    assert "the run has collapsed (after 1 retry)" in str(made.error)
    again = run(
        made.checkpoints, made.events[-1].step, on_collapse="retry", rate=20.0,
        until=lambda event: isinstance(event, Retried),
    )  # fmt: skip
    assert again.of(Retried)[0].rate_factor == 0.25, "more retries are allowed now"


def test_returns_to_a_checkpoint_that_was_good(run, monkeypatch):
    """The rate is ten times as high after 60 steps, as if the run had diverged there."""
    monkeypatch.setattr(Schedule, "lr_lambda", lambda self, step: 0.1 if step <= 60 else 1.0)
    made = run(on_collapse="retry", max_retries=9, total=110)
    first = made.of(Retried)[0]
    assert 10 <= first.step <= 50 and first.collapsed_step > 60
    best = [event for event in made.of(Evaluated) if event.step <= first.step and event.best]
    assert first.best == best[-1].metrics["accuracy"]
    assert first.step in made.checkpoints.protected[60]
    assert made.error is None and made.names[-1] == "Finished 110"


def test_killed_after_a_retry_and_resumed_equals_the_uninterrupted_run(run):
    whole = run(on_collapse="retry", max_retries=9)
    # (number of the retry, the step after it where the process is killed, that of its checkpoint)
    for retry, at, last in ((1, 5, 0), (1, 15, 10), (2, 25, 20)):
        retried = 0

        def is_killed(event, retry=retry, at=at):
            nonlocal retried
            retried += isinstance(event, Retried)
            return retried == retry and event.step == at

        first = run(on_collapse="retry", max_retries=9, until=is_killed)
        assert max(first.checkpoints.saved) == last
        second = run(first.checkpoints, last, on_collapse="retry", max_retries=9)
        assert second.error is None and second.names[-1] == "Finished 60"
        for one, other in zip(second.stepper.parameters, whole.stepper.parameters, strict=True):
            assert torch.equal(one, other)
        left, right = (each.loop.state.state_dict() for each in (second, whole))
        assert left.pop("seconds") > 0 and right.pop("seconds") > 0
        assert left == right
        assert second.checkpoints.saved.keys() == whole.checkpoints.saved.keys()
