"""Everything stateful of a training job under one roof: taken for a checkpoint, put back.

All of it is the same on every rank but the generators: ``random`` holds the first rank's, ``ranks``
those of the others.
"""

from __future__ import annotations

from typing import Any

from bertft.errors import DataError
from bertft.training import optimizer as optimizers
from bertft.training import randomness
from bertft.training.loop import TrainerState
from bertft.training.ranks import SINGLE_PROCESS, DistributedContext
from bertft.training.step import TrainStep

__all__ = ["restore_state", "capture_state"]


def capture_state(
    stepper: TrainStep, progress: TrainerState, callback_states: dict[str, Any], ranks: DistributedContext = SINGLE_PROCESS
) -> dict[str, Any]:
    """Nested dicts of tensors and JSON scalars; ``callback_states`` are states of listeners.

    All ranks call it at once.
    """
    generators = ranks.all_gather_objects([randomness.capture_rng_state()])
    return {
        "progress": progress.state_dict(),
        "optimizer": optimizers.optimizer_state(stepper.optimizer),
        "scaler": stepper.scaler.state_dict(),
        "parts": {part.name: part.state_dict() for part in stepper.components},
        "random": generators[0],
        "ranks": generators[1:],
        "others": callback_states,
    }


def restore_state(
    state: dict[str, Any], stepper: TrainStep, ranks: DistributedContext = SINGLE_PROCESS
) -> tuple[TrainerState, dict[str, Any]]:
    """Progress and the listeners' states; the rest is loaded where it belongs.

    A rank that the state knows nothing of keeps its generators as they are. DataError where it is
    not the state of such a job.
    """
    try:
        return _restore(state, stepper, ranks)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise DataError(
            f"the training state does not fit the run ({type(error).__name__}: {error})",
            hint="Was it edited? An earlier checkpoint may serve: remove this one",
        ) from error


def _restore(
    state: dict[str, Any], stepper: TrainStep, ranks: DistributedContext
) -> tuple[TrainerState, dict[str, Any]]:
    progress = TrainerState()
    progress.load_state_dict(state["progress"])
    optimizers.load_optimizer_state(stepper.optimizer, state["optimizer"])
    if state["scaler"]:
        stepper.scaler.load_state_dict(state["scaler"])
    for part in stepper.components:
        part.load_state_dict(state["parts"][part.name])
    generators = [state["random"], *state.get("ranks", ())]
    if ranks.rank < len(generators):
        randomness.restore_rng_state(generators[ranks.rank])
    callback_states = state["others"]
    if callback_states:
        first, second = callback_states["position"]
        if not (type(first) is type(second) is int and isinstance(callback_states["metrics"], dict)):
            raise TypeError("the place in the metrics files is none")
    return progress, callback_states
