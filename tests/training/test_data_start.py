"""The passes before the first step from which components initialize parameters."""

from __future__ import annotations

import pytest
import torch

from bertft.training.events import StepCompleted
from bertft.training.trainer_state import TrainerState


@pytest.fixture
def recording(everything):
    """``recording(batches)``: a component that adds up its gradients during the passes."""

    class Recording(everything):
        def __init__(self, batches):
            super().__init__()
            self.start_batches, self.started, self.sums = batches, 0, []

        def start_from_data(self, model, run_passes):
            self.started += 1
            self.resets = 0
            run_passes(self.reset)
            assert all(parameter.grad is None for _, parameter in self.named)

        def reset(self):
            self.resets += 1

    return Recording


def test_they_run_once_before_the_first_step_and_change_nothing(stepper, drive, recording):
    plain = stepper(dropout=0.2)
    expected = drive(plain, total=4).run()
    component = recording(2)
    step = stepper(component=component, dropout=0.2)  # made now: it seeds the dropout
    passes = []
    step.runner.model.register_forward_hook(lambda model, *_: passes.append(model.training))
    made = drive(step, total=4).run()
    assert component.started == 1 and passes[:2] == [False, False] and passes[2]
    losses, plain_losses = (
        [event.loss for event in run.of(StepCompleted)] for run in (made, expected)
    )
    assert losses == plain_losses
    assert all(a.equal(b) for a, b in zip(step.parameters, plain.parameters, strict=True))


def test_a_run_that_resumes_after_a_step_does_not_repeat_them(stepper, drive, recording):
    component = recording(2)
    drive(stepper(component=component), total=4, progress=TrainerState(step=1)).run()
    assert component.started == 0


def test_out_of_memory_begins_again_in_smaller_parts(stepper, drive, recording):
    component = recording(1)
    step = stepper(component=component)
    sizes, forward = [], step.objective.forward

    def fail_once(runner, batch):
        if not runner.model.training:
            sizes.append(len(batch))
            if len(sizes) < 3:
                raise torch.OutOfMemoryError("no memory")
        return forward(runner, batch)

    step.objective.forward = fail_once
    made = drive(step, total=2).run()
    assert sizes == [4, 2, 1, 1, 1, 1] and component.resets == 2
    assert made.loop.state.halved == 0 and step.runner.model.training
