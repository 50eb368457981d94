"""The training state in a checkpoint: progress, optimizer, loss scale, components, random state.

The keys are the same as in checkpoints of earlier versions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bertft.errors import DataError
from bertft.training.distributed import SINGLE_PROCESS, DistributedContext
from bertft.training.optim import load_optimizer_state, optimizer_state
from bertft.training.random_state import capture_rng_state, restore_rng_state
from bertft.training.step import TrainStep
from bertft.training.trainer_state import TrainerState

__all__ = ["capture_state", "restore_state"]


def capture_state(
    train_step: TrainStep,
    state: TrainerState,
    callback_state: Mapping[str, Any],
    distributed: DistributedContext = SINGLE_PROCESS,
) -> dict[str, Any]:
    """Return the state as nested dicts of tensors and JSON values. All processes must call it."""
    generators = distributed.all_gather_objects([capture_rng_state()])
    average = train_step.average
    return {
        "progress": state.state_dict(),
        "optimizer": optimizer_state(train_step.optimizer),
        "scaler": train_step.scaler.state_dict(),
        "parts": {component.name: component.state_dict() for component in train_step.components},
        "random": generators[0],
        "ranks": generators[1:],
        "others": dict(callback_state),
        **({} if average is None else {"average": average.state_dict()}),
    }


def restore_state(
    saved: Mapping[str, Any],
    train_step: TrainStep,
    distributed: DistributedContext = SINGLE_PROCESS,
) -> tuple[TrainerState, dict[str, Any]]:
    """Load what ``capture_state`` returned; return the states of the trainer and the callbacks.

    With more processes than the saved run had, the additional ones keep their random state.

    Raises:
        DataError: the state is damaged or belongs to another run.
    """
    try:
        return _restore(saved, train_step, distributed)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise DataError(
            f"the training state does not fit the run ({type(error).__name__}: {error})",
            hint="The checkpoint may be damaged: remove it to resume from an earlier one",
        ) from error


def _restore(
    saved: Mapping[str, Any], train_step: TrainStep, distributed: DistributedContext
) -> tuple[TrainerState, dict[str, Any]]:
    state = TrainerState()
    state.load_state_dict(saved["progress"])
    load_optimizer_state(train_step.optimizer, saved["optimizer"])
    if saved["scaler"]:
        train_step.scaler.load_state_dict(saved["scaler"])
    for component in train_step.components:
        component.load_state_dict(saved["parts"][component.name])
    if train_step.average is not None:
        train_step.average.load_state_dict(saved["average"])
    generators = [saved["random"], *saved.get("ranks", ())]
    if distributed.rank < len(generators):
        restore_rng_state(generators[distributed.rank])
    callback_state = saved["others"]
    if callback_state:
        lengths = list(callback_state["position"])
        if [type(length) for length in lengths] != [int, int]:
            raise TypeError("invalid positions in the metrics files")
        if not isinstance(callback_state["metrics"], dict):
            raise TypeError("invalid state of the metrics file")
    return state, callback_state
