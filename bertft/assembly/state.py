"""Everything stateful of a training job under one roof: taken for a checkpoint, put back.

All of it is the same on every rank but the generators: ``random`` holds the first rank's, ``ranks``
those of the others.
"""

from __future__ import annotations

from typing import Any

from bertft.errors import DataError
from bertft.training import optimizer as optimizers
from bertft.training import randomness
from bertft.training.loop import Progress
from bertft.training.ranks import ALONE, Ranks
from bertft.training.step import Stepper

__all__ = ["put_back", "take"]


def take(
    stepper: Stepper, progress: Progress, others: dict[str, Any], ranks: Ranks = ALONE
) -> dict[str, Any]:
    """Nested dicts of tensors and JSON scalars; ``others`` are states of listeners.

    All ranks call it at once.
    """
    generators = ranks.gather([randomness.state()])
    return {
        "progress": progress.state_dict(),
        "optimizer": optimizers.moments(stepper.optimizer),
        "scaler": stepper.scaler.state_dict(),
        "parts": {part.name: part.state_dict() for part in stepper.parts},
        "random": generators[0],
        "ranks": generators[1:],
        "others": others,
    }


def put_back(
    state: dict[str, Any], stepper: Stepper, ranks: Ranks = ALONE
) -> tuple[Progress, dict[str, Any]]:
    """Progress and the listeners' states; the rest is loaded where it belongs.

    A rank that the state knows nothing of keeps its generators as they are. DataError where it is
    not the state of such a job.
    """
    try:
        return _put_back(state, stepper, ranks)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise DataError(
            f"the training state does not fit the run ({type(error).__name__}: {error})",
            hint="Was it edited? An earlier checkpoint may serve: remove this one",
        ) from error


def _put_back(
    state: dict[str, Any], stepper: Stepper, ranks: Ranks
) -> tuple[Progress, dict[str, Any]]:
    progress = Progress()
    progress.load_state_dict(state["progress"])
    optimizers.load_moments(stepper.optimizer, state["optimizer"])
    if state["scaler"]:
        stepper.scaler.load_state_dict(state["scaler"])
    for part in stepper.parts:
        part.load_state_dict(state["parts"][part.name])
    generators = [state["random"], *state.get("ranks", ())]
    if ranks.rank < len(generators):
        randomness.restore(generators[ranks.rank])
    others = state["others"]
    if others:
        first, second = others["position"]
        if not (type(first) is type(second) is int and isinstance(others["metrics"], dict)):
            raise TypeError("the place in the metrics files is none")
    return progress, others
