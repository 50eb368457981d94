"""The loop's events, in order, and what a rebuilt loop makes of a saved progress."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from bertft.config.data import DataConfig
from bertft.data.batch import Batch
from bertft.errors import NonFiniteError, UsageError
from bertft.tasks.classification import ClassificationTask
from bertft.training.events import (
    Checkpointed,
    Evaluated,
    Finished,
    Interrupted,
    StepCompleted,
    StepSkipped,
    Stopped,
)
from bertft.training.signals import StopRequest
from bertft.training.step import lr_lambda
from bertft.training.trainer_state import TrainerState


class Scripted(ClassificationTask):
    """Its accuracies come from a list; it remembers the rows of every training batch."""

    def __init__(self, scores=()):
        super().__init__(DataConfig(name="test"), ["a", "b", "c"])
        self.scripted, self.windows = list(scores), []

    def compute_metrics(self, logits, features):
        actual = super().compute_metrics(logits, features)
        return {**actual, "accuracy": self.scripted.pop(0)} if self.scripted else actual

    def count_loss_terms(self, batch):
        self.windows.append(batch.feature_indices.tolist())
        return super().count_loss_terms(batch)


@pytest.fixture
def small(stepper):
    """``small(scores, **changes)``: one layer, scripted accuracies."""
    return lambda scores=(), **changes: stepper(Scripted(scores), layers=1, **changes)


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("bertft-prefetch")]


def test_events_of_two_epochs_and_a_part(small, drive):
    made = drive(small([0.1, 0.3, 0.2]), total=7).run()
    assert made.names == [
        "Started 0",
        "StepCompleted 1", "StepCompleted 2", "StepCompleted 3", "Evaluated 3", "Checkpointed 3",
        "StepCompleted 4", "StepCompleted 5", "StepCompleted 6", "Evaluated 6", "Checkpointed 6",
        "StepCompleted 7", "Evaluated 7", "Checkpointed 7",
        "Finished 7",
    ]  # fmt: skip
    assert made.events[-1].reason == "done"
    assert (made.events[0].total_steps, made.events[0].steps_per_epoch) == (7, 3)
    assert [event.epoch for event in made.of(StepCompleted)] == [step / 3 for step in range(1, 8)]
    assert [event.best for event in made.of(Evaluated)] == [True, True, False]
    labels = np.bincount(made.loop.data.validation.read_column("labels"))
    share = labels[labels > 0] / labels.sum()
    levels = [event.input_free_loss for event in made.of(Evaluated)]
    assert levels == pytest.approx([-(share * np.log(share)).sum()] * 3)
    assert [saved[:2] for saved in made.saved] == [(3, True), (6, True), (7, False)]
    assert str(made.of(Checkpointed)[0].path) == "step-3"
    progress = made.loop.state
    assert (progress.best, progress.best_step, progress.stale) == (0.3, 6, 1)
    assert progress.best_metrics["accuracy"] == 0.3 and "loss" in progress.best_metrics
    assert progress.rows == sum(event.rows for event in made.of(StepCompleted)) > 20
    assert progress.tokens == sum(event.tokens for event in made.of(StepCompleted)) > 60 * 2
    assert progress.loss_sum == pytest.approx(sum(event.loss for event in made.of(StepCompleted)))


@pytest.mark.parametrize("micro", [None, 3])
def test_every_row_comes_once_an_epoch_by_length_within_its_batch(small, drive, micro):
    stepper = small()
    made = drive(stepper, total=6, micro_batch=micro).run()
    windows = stepper.task.windows
    flat = [row for window in windows for row in window]
    assert sorted(flat[:10]) == sorted(flat[10:]) == list(range(10)) and flat[:10] != flat[10:]
    sizes = [len(window) for window in windows]
    assert max(sizes) == (micro or 4) and len(sizes) == (10 if micro else 6)
    lengths = made.loop.data.train.lengths
    assert all(sorted(lengths[window]) == list(lengths[window]) for window in windows)
    assert sorted(event.rows for event in made.of(StepCompleted)) == [2, 2, 4, 4, 4, 4]


def test_cadences_of_their_own(small, drive):
    made = drive(small([0.1, 0.2, 0.2]), total=5, evaluate_every=2, checkpoint_every=3).run()
    assert made.names == [
        "Started 0", "StepCompleted 1", "StepCompleted 2", "Evaluated 2", "Checkpointed 2",
        "StepCompleted 3", "Checkpointed 3", "StepCompleted 4", "Evaluated 4", "Checkpointed 4",
        # The last step is always evaluated and kept.
        "StepCompleted 5", "Evaluated 5", "Checkpointed 5",
        "Finished 5",
    ]  # fmt: skip
    assert [saved[1] for saved in made.saved] == [True, False, True, False]


def test_evaluations_at_equal_distances(small, drive):
    made = drive(small([0.1, 0.2, 0.3]), total=7, evaluations=3).run()
    assert [event.step for event in made.of(Evaluated)] == [3, 5, 7]


@pytest.mark.parametrize(("stop_at", "step"), [(2.0, 2), (0.5, 4)])
def test_it_stops_with_a_checkpoint_and_resumes_from_it(small, drive, stop_at, step):
    stepper = small([0.1, 0.2])
    made = drive(stepper, total=7, stop_at=stop_at, evaluate_every=6).run()
    steps = [f"StepCompleted {number}" for number in range(1, step + 1)]
    assert made.names == ["Started 0", *steps, f"Checkpointed {step}", f"Stopped {step}"]
    assert made.events[-1] == Stopped(step, 7)
    progress = TrainerState()
    progress.load_state_dict(json.loads(json.dumps(made.saved[-1][2])))
    again = drive(stepper, total=7, stop_at=stop_at, evaluate_every=6, progress=progress).run()
    assert again.names == [f"Started {step}", f"Stopped {step}"] and not again.saved
    end = drive(stepper, total=7, evaluate_every=6, progress=progress).run()
    assert end.names[1] == f"StepCompleted {step + 1}" and end.events[-1] == Finished(7, "done")


def test_a_stop_at_an_evaluation_saves_once_and_patience_comes_first(small, drive):
    made = drive(small([0.5]), total=7, stop_at=2.0, evaluate_every=2).run()
    assert made.names[-3:] == ["Evaluated 2", "Checkpointed 2", "Stopped 2"]
    made = drive(small([0.5, 0.5]), total=7, stop_at=4.0, evaluate_every=2, patience=1).run()
    assert made.events[-1] == Finished(4, "patience")


def test_without_validation_only_the_end_is_kept(small, drive):
    made = drive(small(), total=4, validation=None).run()
    steps = [f"StepCompleted {n}" for n in range(1, 5)]
    assert made.names == ["Started 0", *steps, "Checkpointed 4", "Finished 4"]
    assert made.loop.state.best is None


def test_rates_follow_the_schedule(small, drive):
    made = drive(small(), total=5, warmup=0.4, schedule="cosine").run()
    rates = [event.learning_rates for event in made.of(StepCompleted)]
    expected = [1e-2 * lr_lambda(step, 5, 0.4, "cosine") for step in range(1, 6)]
    assert rates == [{"everything": rate} for rate in expected]
    assert all(event.metrics == {"weight": 0.0} for event in made.of(StepCompleted))


def test_training_learns_and_evaluation_leaves_it_in_training_mode(small, drive):
    stepper = small()
    stepper.runner.model.eval()
    seen = []
    made = drive(stepper, total=60).run(lambda _: seen.append(stepper.runner.model.training))
    losses = [event.loss for event in made.of(StepCompleted)]
    assert sum(losses[-3:]) < 0.2 * sum(losses[:3])
    assert seen[0] is False and all(seen[1:])


def test_patience_ends_it_and_a_resume_then_ends_at_once(small, drive):
    scores = [0.5, 0.6, 0.6, 0.4, 0.9]
    made = drive(small(scores), total=9, evaluate_every=1, patience=2).run()
    assert made.names[-4:] == ["StepCompleted 4", "Evaluated 4", "Checkpointed 4", "Finished 4"]
    assert made.events[-1] == Finished(4, "patience")
    progress = TrainerState()
    progress.load_state_dict(json.loads(json.dumps(made.saved[-1][2])))
    assert (progress.stale, progress.best_step) == (2, 2)
    progress.start = progress.gradient = None  # the weights of the checkpoint are not loaded here
    stepper = small()
    again = drive(stepper, total=9, evaluate_every=1, patience=2, progress=progress).run()
    assert again.names == ["Started 4", "Finished 4"]
    assert again.events[-1].reason == "patience"
    assert not again.saved and not stepper.task.windows


@pytest.mark.parametrize("again", [False, True])
def test_patience_at_the_last_step_is_done(small, drive, again):
    made = drive(small([0.5, 0.5]), total=2, evaluate_every=1, patience=1).run()
    if again:
        progress = replace(made.loop.state, start=None, gradient=None)
        made = drive(small(), total=2, evaluate_every=1, patience=1, progress=progress).run()
    assert made.events[-1] == Finished(2, "done")


def test_patience_that_ends_between_checkpoints_keeps_the_last_model(small, drive):
    made = drive(
        small([0.5, 0.5]), total=9, evaluate_every=1, checkpoint_every=5, patience=1
    ).run()  # fmt: skip
    assert made.names[-3:] == ["Evaluated 2", "Checkpointed 2", "Finished 2"]


def test_only_a_model_that_is_ready_can_be_the_best(small, drive, everything):
    component = everything()
    component.ready_from = 3
    made = drive(
        small([0.9, 0.8, 0.4, 0.5, 0.5], component=component), total=5, evaluate_every=1, patience=2
    ).run()  # fmt: skip
    assert [event.eligible for event in made.of(Evaluated)] == [False, False, True, True, True]
    assert [event.best for event in made.of(Evaluated)] == [False, False, True, True, False]
    assert made.loop.state.best == 0.5 and made.loop.state.stale == 1
    assert made.events[-1].reason == "done", "evaluations that do not count use up no patience"


def test_a_metric_that_is_not_finite_is_never_the_best(small, drive):
    made = drive(
        small([float("nan"), 0.2, float("inf"), float("nan")]), total=4, evaluate_every=1
    ).run()  # fmt: skip
    assert [event.best for event in made.of(Evaluated)] == [False, True, False, False]
    assert made.loop.state.stale == 2


def test_a_run_without_a_finite_evaluation_has_no_end(small, drive):
    made = drive(small([float("nan"), float("inf")]), total=2, evaluate_every=1)
    with pytest.raises(NonFiniteError, match="no evaluation had a finite"):
        made.run()


def test_nor_does_it_matter_that_no_evaluation_counts(small, drive, everything):
    """Steps that were withheld may keep a component from ever being ready."""
    component = everything()
    component.ready_from = 9
    made = drive(small([float("nan")], component=component), total=1, evaluate_every=1)
    with pytest.raises(NonFiniteError, match="no evaluation had a finite"):
        made.run()


def test_nor_has_it_one_after_a_resume_from_its_last_checkpoint(small, drive):
    stepper = small([float("nan"), float("inf")])
    made = drive(stepper, total=2, evaluate_every=1)
    with pytest.raises(NonFiniteError):
        made.run()
    progress = TrainerState()
    progress.load_state_dict(json.loads(json.dumps(made.saved[-1][2])))
    with pytest.raises(NonFiniteError, match="no evaluation had a finite"):
        drive(stepper, total=2, evaluate_every=1, progress=progress).run()


@pytest.mark.parametrize("decay", [0.0, 0.01])
@pytest.mark.parametrize("changes", [{"clip": 1e-40}, {"epsilon": 1e30}, {"rate": 1e-30}])
def test_a_run_in_which_nothing_was_learnt_has_no_end(small, drive, changes, decay):
    """Weights that only decay have learnt nothing either."""
    stepper = small()
    stepper.max_grad_norm = changes.get("clip")
    for group in stepper.optimizer.param_groups:
        group["initial_lr"] = changes.get("rate", group["initial_lr"])
        group["weight_decay"] = decay
        group["eps"] = changes.get("epsilon", group["eps"])
    made = drive(stepper, total=3, epsilon=changes.get("epsilon", 1e-8))
    with pytest.raises(UsageError, match="no gradient changed a weight in 3 steps"):
        made.run()


def test_parts_that_did_not_change_are_named(small, drive):
    stepper = small()
    group = stepper.optimizer.param_groups[0]
    half = len(group["params"]) // 2
    frozen = {**group, "name": "frozen/no_decay", "initial_lr": 1e-30, "weight_decay": 0.0}
    for name in ("params", "param_names"):
        group[name], frozen[name] = group[name][:half], group[name][half:]
    stepper.optimizer.add_param_group(frozen)
    assert drive(stepper, total=3).run().loop.unchanged_groups == ["frozen/no_decay"]


@pytest.mark.parametrize(("rate", "unchanged"), [(1e-25, ["zeros"]), (1e-4, [])])
def test_a_group_that_starts_at_0_learns_more_than_rounding_errors(small, drive, rate, unchanged):
    """Any update changes a weight that is 0, however small it is."""
    stepper = small()
    group = stepper.optimizer.param_groups[-1]
    chosen = group["param_names"].index("classifier.bias")
    zeros = {**group, "name": "zeros", "initial_lr": rate}
    for name in ("params", "param_names"):
        zeros[name] = [group[name].pop(chosen)]
    [bias] = zeros["params"]
    torch.nn.init.zeros_(bias)
    stepper.optimizer.add_param_group(zeros)
    loop = drive(stepper, total=3).run().loop
    assert bias.any()
    assert loop.unchanged_groups == unchanged


def test_answers_that_are_nan_are_never_the_best(small, drive, monkeypatch):
    """Their accuracy is a number all the same."""

    def evaluated(*inputs):
        inputs[-1](np.asarray([[0.5, float("nan")]]))
        return {"accuracy": 0.9}

    monkeypatch.setattr("bertft.training.trainer.evaluate", evaluated)
    made = drive(small([0.9]), total=1, evaluate_every=1)
    with pytest.raises(NonFiniteError, match="no evaluation had a finite"):
        made.run()


def test_a_metric_that_is_better_when_lower(stepper, drive):
    task = Scripted()
    task.config.metric = "loss"
    made = drive(stepper(task, layers=1), total=12, evaluate_every=4).run()
    values = [event.metrics["loss"] for event in made.of(Evaluated)]
    assert made.loop.state.best == min(values) < values[0]


@pytest.mark.parametrize(("at", "then"), [(2, []), (3, ["Evaluated 3"])])
def test_a_signal_ends_it_after_the_step_and_a_checkpoint(small, drive, at, then):
    stop = StopRequest()
    stepper = small()

    def hear(event):
        if isinstance(event, StepCompleted) and event.step == at:
            stop.signum = 15

    made = drive(stepper, total=7, stop=stop).run(hear)
    assert made.names[-2 - len(then) :] == [*then, f"Checkpointed {at}", f"Interrupted {at}"]
    assert made.events[-1] == Interrupted(at, 15)
    assert len(stepper.task.windows) == at
    assert not threads()


@pytest.mark.parametrize("at", [1, 2, 3, 4, 6, 7])
def test_a_resumed_loop_has_the_same_rows_and_ends_with_the_same_bits(small, drive, at):
    """At an epoch's start, middle and end; dropout drawn from the same generator."""
    whole = small(dropout=0.2)
    expected = drive(whole, total=7, evaluate_every=2).run()
    stop, stepper = StopRequest(), small(dropout=0.2)

    def hear(event):
        if event.step == at:
            stop.signum = 2

    first = drive(stepper, total=7, evaluate_every=2, stop=stop).run(hear)
    assert isinstance(first.events[-1], Interrupted)
    progress = TrainerState()
    progress.load_state_dict(json.loads(json.dumps(first.saved[-1][2])))
    second = drive(stepper, total=7, evaluate_every=2, progress=progress).run()
    assert second.names[0] == f"Started {at}" and second.events[-1].reason == "done"
    assert stepper.task.windows == whole.task.windows
    losses = [event.loss for made in (first, second) for event in made.of(StepCompleted)]
    assert losses == [event.loss for event in expected.of(StepCompleted)]
    for one, other in zip(stepper.parameters, whole.parameters, strict=True):
        assert torch.equal(one, other)
    left, right = second.loop.state.state_dict(), expected.loop.state.state_dict()
    assert left.pop("seconds") > 0 and right.pop("seconds") > 0
    assert left == right


def test_a_run_that_was_done_reports_it_again(small, drive):
    made = drive(small(), total=3).run()
    progress = replace(made.loop.state, start=None, gradient=None)
    again = drive(small(), total=3, progress=progress).run()
    assert again.names == ["Started 3", "Finished 3"] and not again.saved
    longer = drive(small(), total=4, progress=progress).run()
    assert longer.names == [
        "Started 3",
        "StepCompleted 4",
        "Evaluated 4",
        "Checkpointed 4",
        "Finished 4",
    ]


def test_batches_are_staged_ahead_for_the_device_and_none_twice(small, drive, monkeypatch):
    """Those of 7 steps, in micro-batches of at most 3 rows, and those of the evaluations."""
    staged, ran = [], []

    def stage(batch, device):
        assert threading.current_thread().name.startswith("bertft-prefetch")
        staged.append((device, batch.feature_indices.tolist()))
        return batch

    monkeypatch.setattr(Batch, "pin_memory", stage)
    made = small()
    forward = made.runner.__class__.__call__

    def run(runner, batch, trace=None):
        ran.append((made.precision.device, batch.feature_indices.tolist()))
        return forward(runner, batch, trace)

    monkeypatch.setattr(made.runner.__class__, "__call__", run)
    drive(made, micro_batch=3).run()
    assert sorted(map(str, staged)) == sorted(map(str, ran)) and len(ran) > 14


def test_the_prefetching_thread_ends_with_the_loop(small, drive):
    made = drive(small(), total=20)
    events = made.loop.run()
    next(events)
    next(events)
    assert len(threads()) == 1
    events.close()
    assert not threads()
    drive(small(), total=2).run()
    assert not threads()


LENGTHS = [3, 9, 5, 7, 4, 6, 8, 3, 5, 10]


def test_rows_that_are_not_finite_are_named_and_nothing_of_them_is_applied(small, drive, table):
    """Rows, not features: row 30 has two, of which one is bad."""
    rows = table(LENGTHS, poisoned=[2], row=[10, 20, 30, 30, 40, 50, 60, 70, 80, 90])
    stepper = small(poisoned=True)
    made = drive(stepper, total=6, rows=rows, validation=None).run()
    skipped = made.of(StepSkipped)
    assert len(skipped) == 2 and len(made.of(StepCompleted)) == 4
    for event in skipped:
        window = next(indices for indices in stepper.task.windows if 2 in indices)
        stepper.task.windows.remove(window)
        numbers = [10, 20, 30, 30, 40, 50, 60, 70, 80, 90]
        assert event.rows == tuple(sorted({numbers[feature] for feature in window}))
        assert event.locations == tuple(f"rows.csv:{row}" for row in event.rows)
        assert "not finite" in event.reason
    progress = made.loop.state
    assert (progress.skipped, progress.rescaled) == (2, 0)
    assert progress.step == 6 and progress.rows == 20


def test_too_many_in_a_row_stop_the_run(small, drive, table):
    rows = table(LENGTHS, poisoned=range(10))
    stepper = small(poisoned=True)
    before = [parameter.detach().clone() for parameter in stepper.parameters]
    made = drive(stepper, total=9, rows=rows, validation=None, non_finite_limit=3)
    with pytest.raises(NonFiniteError) as caught:
        made.run()
    assert made.names == ["Started 0", "StepSkipped 1", "StepSkipped 2"] and not made.saved
    named = ", ".join(f"rows.csv:{row}" for row in sorted(stepper.task.windows[2]))
    assert str(caught.value).startswith(
        "step 3: loss or gradient was not finite in 3 consecutive steps"
        f" (rows of the last step: {named})"
    )
    assert caught.value.status == 3 and made.loop.state.loss_sum == 0
    for one, other in zip(stepper.parameters, before, strict=True):
        torch.testing.assert_close(one.detach(), other, rtol=0, atol=0, equal_nan=True)
    assert not threads()


def test_one_good_step_starts_the_count_again(small, drive, table):
    """Ten windows of one row each, five of them bad, but not one after the other."""
    rows = table(LENGTHS, poisoned=[0, 1, 2, 3, 4])
    made = drive(
        small(poisoned=True), total=10, rows=rows, validation=None, batch_size=1,
        shuffle_window=1, non_finite_limit=5, seed=3,
    ).run()  # fmt: skip
    assert made.loop.state.skipped == 5 and made.loop.state.step == 10


@pytest.mark.parametrize("change", [{"step": -5}, {"rows": 1 << 80}, {"stale": None}, {"x": 1}])
def test_progress_that_cannot_be_is_refused(change):
    with pytest.raises(ValueError, match="invalid trainer state"):
        TrainerState().load_state_dict({**TrainerState().state_dict(), **change})
