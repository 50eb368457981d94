"""Out of memory on an accelerator: smaller passes, the same step, reported once and remembered."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bertft.config.trainer import TrainerConfig
from bertft.training.evaluate import predict_logits
from bertft.training.events import MicroBatchReduced, StepCompleted
from bertft.training.trainer_state import TrainerState

# The same gradients, their terms added in another order: a batch of 4 rows of up to 10 tokens has
# up to 40 terms, of the size of 1 at most, and a sum of n terms is off by up to n roundings.
# AdamW moves a weight by rate · g / (|g| + ε). Where g is 0 but for rounding (the bias of keys, to
# which softmax is blind), the difference grows by rate / ε: more than all else does.
RATE, EPSILON, ROUNDING = 1e-2, TrainerConfig.epsilon, 2.0**-53
OTHER_ORDER = RATE / EPSILON * 4 * 10 * ROUNDING  # a step


class Limited:
    """A runner whose memory suffices for ``rows`` rows with gradients, and no more."""

    def __init__(self, runner, rows):
        self._runner, self.suffice, self.passes, self.failed = runner, lambda: rows, [], 0

    def __getattr__(self, name):
        return getattr(self._runner, name)

    def __call__(self, batch):
        logits = self._runner(batch)
        if torch.is_grad_enabled():
            if len(batch) > self.suffice():
                self.failed += 1
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            self.passes.append(len(batch))
        return logits


def limited(stepper, rows, **options):
    made = stepper(**options)
    made.runner = Limited(made.runner, rows)
    return made


def weights(made):
    return torch.cat([parameter.detach().flatten() for parameter in made.parameters])


@pytest.mark.parametrize(("rows", "micro", "tries"), [(3, 2, 1), (2, 2, 1), (1, 1, 2)])
def test_the_micro_batch_is_halved_and_the_steps_are_the_same(stepper, drive, rows, micro, tries):
    reference, short = stepper(), limited(stepper, rows)
    expected = drive(reference, 7).run()
    actual = drive(short, 7).run()
    assert [(e.step, e.micro_batch) for e in actual.of(MicroBatchReduced)] == [(0, micro)]
    assert [
        event for event in actual.names if not event.startswith("MicroBatchReduced")
    ] == expected.names
    assert short.runner.failed == tries, "batches made ahead are cut again before they run"
    assert max(short.runner.passes) == micro
    torch.testing.assert_close(weights(short), weights(reference), rtol=0, atol=7 * OTHER_ORDER)
    for one, other in zip(actual.of(StepCompleted), expected.of(StepCompleted), strict=True):
        assert (one.rows, one.tokens) == (other.rows, other.tokens)
        assert one.loss == pytest.approx(other.loss, rel=1e-10)
        assert one.gradient_norm == pytest.approx(other.gradient_norm, rel=1e-8)


def test_what_a_failed_pass_left_is_undone(stepper, drive, table):
    """The second pass of a step fails: the gradients of the first are not counted twice."""
    reference, short = stepper(), limited(stepper, 4)
    room = iter([4, 1, 4, 4, 4, 4])  # rows that suffice, pass by pass
    short.runner.suffice = lambda: next(room)
    rows = table([3, 9, 5, 7, 4, 6, 8, 3])
    drive(reference, 1, rows=rows, batch_size=8, micro_batch=4).run()
    actual = drive(short, 1, rows=rows, batch_size=8, micro_batch=4).run()
    assert len(actual.of(MicroBatchReduced)) == 1
    assert short.runner.passes == [4, 2, 2, 2, 2]
    torch.testing.assert_close(weights(short), weights(reference), rtol=0, atol=2 * OTHER_ORDER)


def test_a_resumed_run_remembers(stepper, drive):
    first = drive(limited(stepper, 1), 7).run()
    progress = TrainerState()
    progress.load_state_dict(first.saved[0][2])
    assert progress.halved == 2
    again = limited(stepper, 1)
    actual = drive(again, 7, progress=progress).run()
    assert again.runner.failed == 0 and set(again.runner.passes) == {1}
    assert actual.of(MicroBatchReduced) == []


def test_one_row_that_does_not_fit_ends_the_run(stepper, drive):
    made = limited(stepper, 0)
    before = weights(made)
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        drive(made, 7).run()
    assert torch.equal(weights(made), before)
    assert made.runner.failed == 3, "4, 2 and 1 rows"


def test_another_error_is_no_lack_of_memory(stepper, drive):
    made = limited(stepper, 4)

    def broken(logits, batch):
        raise RuntimeError("no kernel")

    made.task.loss = broken
    with pytest.raises(RuntimeError, match="no kernel"):
        drive(made, 7).run()


class Small:
    """A runner that has room for ``rows`` rows without gradients."""

    def __init__(self, runner, rows):
        self._runner, self.rows, self.passes = runner, rows, []

    def __getattr__(self, name):
        return getattr(self._runner, name)

    def __call__(self, batch):
        if len(batch) > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        self.passes.append(batch.feature_indices.tolist())
        return self._runner(batch)


@pytest.mark.parametrize("name", ["classification", "tagging"])
@pytest.mark.parametrize("rows", [1, 2, 4])
def test_an_evaluation_continues_in_halves(stepper, table, rows, name):
    made, lengths = stepper(name), [3, 9, 5, 7, 4, 6, 8, 3, 5, 10, 3]
    rest = table(lengths, name), made.precision
    expected = predict_logits(made.runner, *rest)
    short = Small(made.runner, rows)
    actual = predict_logits(short, *rest)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)
    assert sorted(row for indices in short.passes for row in indices) == list(range(11))
    assert max(map(len, short.passes)) <= rows < 11


def test_an_evaluation_of_rows_that_are_too_long_alone_reports_it(stepper, table):
    made = stepper()
    with pytest.raises(torch.OutOfMemoryError):
        predict_logits(Small(made.runner, 0), table([3, 4]), made.precision)
