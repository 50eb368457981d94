"""The moving average of the weights: its values, its place in the model, its state."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bertft.training.checkpoint_state import capture_state, restore_state
from bertft.training.events import Checkpointed, Evaluated
from bertft.training.step import TrainStep
from bertft.training.trainer_state import TrainerState
from bertft.training.weight_average import WeightAverage


def weights(*values: float) -> dict[str, nn.Parameter]:
    return {
        f"w{number}": nn.Parameter(torch.tensor([value], dtype=torch.float64))
        for number, value in enumerate(values)
    }


@pytest.mark.parametrize("decay", [0.15, 0.9, 0.999])
def test_values_are_those_of_the_formula(decay):
    parameters = weights(1.0, -2.0)
    average = WeightAverage(parameters, decay)
    expected = [1.0, -2.0]
    for step in range(1, 30):
        rate = min(decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for number, parameter in enumerate(parameters.values()):
                parameter += 0.1 * step * (number + 1)
                expected[number] = rate * expected[number] + (1 - rate) * parameter.item()
        average.update()
    trained = [parameter.item() for parameter in parameters.values()]
    with average.in_use():
        with average.in_use():
            pass
        found = [parameter.item() for parameter in parameters.values()]
        assert found == pytest.approx(expected, rel=1e-12) and found != trained
    assert [parameter.item() for parameter in parameters.values()] == trained


def test_it_leaves_the_model_as_it_was_after_an_error():
    parameters = weights(1.0)
    average = WeightAverage(parameters, 0.9)
    with torch.no_grad():
        parameters["w0"] += 1
    average.update()
    with pytest.raises(ZeroDivisionError), average.in_use():
        raise ZeroDivisionError
    assert parameters["w0"].item() == 2.0
    with pytest.raises(RuntimeError, match="in_use"):
        average.state_dict()


def test_it_begins_again_with_weights_that_were_initialized_later():
    parameters = weights(1.0)
    average = WeightAverage(parameters, 0.9)
    with torch.no_grad():
        parameters["w0"].fill_(5.0)
    average.reset()
    with average.in_use():
        assert parameters["w0"].item() == 5.0


def test_state_of_other_weights_is_refused():
    average = WeightAverage(weights(1.0, 2.0), 0.9)
    average.use()
    state = average.state_dict()
    for other in (weights(1.0), {"w0": nn.Parameter(torch.zeros(1)), "other": nn.Parameter(
        torch.zeros(1))}):  # fmt: skip
        with pytest.raises(ValueError, match="do not match"):
            WeightAverage(other, 0.9).load_state_dict(state)


def averaged(stepper, decay=0.9) -> TrainStep:
    step = stepper(layers=1, dropout=0.2)
    names = [name for group in step.optimizer.param_groups for name in group["param_names"]]
    step.average = WeightAverage(dict(zip(names, step.parameters, strict=True)), decay)
    return step


def test_evaluations_and_checkpoints_have_the_average(stepper, drive):
    plain = stepper(layers=1, dropout=0.2)
    expected = drive(plain, total=6, evaluate_every=2).run()
    step, saved = averaged(stepper), []  # made now: it seeds the generator of dropout
    made = drive(step, total=6, evaluate_every=2)
    keep = made.loop.save_checkpoint

    def save(state, best):
        saved.append([parameter.detach().clone() for parameter in step.parameters])
        return keep(state, best)

    made.loop.save_checkpoint = save
    made.run()
    # Training itself is the same.
    assert all(a.equal(b) for a, b in zip(step.parameters, plain.parameters, strict=True))
    losses, plain_losses = (
        [event.metrics["loss"] for event in run.of(Evaluated)] for run in (made, expected)
    )
    assert len(losses) == 3 and not set(losses) & set(plain_losses)
    assert len(saved) == len(made.of(Checkpointed)) == 3
    with step.average.in_use():
        assert all(a.equal(b) for a, b in zip(step.parameters, saved[-1], strict=True))


def test_a_checkpoint_restores_the_trained_weights_and_the_average(stepper, drive):
    step = averaged(stepper)
    drive(step, total=6).run()
    trained = [parameter.detach().clone() for parameter in step.parameters]
    with step.average.in_use():
        in_model = [parameter.detach().clone() for parameter in step.parameters]
        state = capture_state(step, TrainerState(step=6), {})
    other = averaged(stepper)
    with torch.no_grad():  # as the checkpoint's weights are loaded
        for parameter, value in zip(other.parameters, in_model, strict=True):
            parameter.copy_(value)
    restore_state(state, other)
    assert all(a.equal(b) for a, b in zip(other.parameters, trained, strict=True))
    assert other.average.updates == step.average.updates == 6
    with other.average.in_use():
        assert all(a.equal(b) for a, b in zip(other.parameters, in_model, strict=True))
