"""Everything stateful of a training process under one roof: taken for a checkpoint, put back."""

from __future__ import annotations

from typing import Any

from bertft.training import optimizer as adamw
from bertft.training import randomness
from bertft.training.loop import Progress
from bertft.training.step import Stepper

__all__ = ["put_back", "take"]


def take(stepper: Stepper, progress: Progress, others: dict[str, Any]) -> dict[str, Any]:
    """Nested dicts of tensors and JSON scalars; ``others`` are states of listeners."""
    return {
        "progress": progress.state_dict(),
        "optimizer": adamw.moments(stepper.optimizer),
        "scaler": stepper.scaler.state_dict(),
        "parts": {part.name: part.state_dict() for part in stepper.parts},
        "random": randomness.state(),
        "others": others,
    }


def put_back(state: dict[str, Any], stepper: Stepper) -> tuple[Progress, dict[str, Any]]:
    """Progress and the listeners' states; the rest is loaded where it belongs."""
    progress = Progress()
    progress.load_state_dict(state["progress"])
    adamw.load_moments(stepper.optimizer, state["optimizer"])
    if state["scaler"]:
        stepper.scaler.load_state_dict(state["scaler"])
    for part in stepper.parts:
        part.load_state_dict(state["parts"][part.name])
    randomness.restore(state["random"])
    return progress, state["others"]
