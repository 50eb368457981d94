"""What a checkpoint holds, beside the base: enough to answer, to merge, and to go on training.

adapter.safetensors   trained parameters and the parts' buffers, by their names in the model
config.json           transformers' config with the labels
tokenizer files       the same bytes in every checkpoint of a run
bertft.json           task, labels, max_length, step
state.safetensors, state.json    optimizer, schedule, generators, parts: to go on
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from bertft.errors import DataError
from bertft.methods import trained_tensors
from bertft.models.check_weights import first_non_finite
from bertft.pipeline import tokenizer_files
from bertft.pipeline.model import TaskModel
from bertft.runs.tensor_files import flatten_state, read_tensors, unflatten_state, write_tensors
from bertft.training import optim as optimizers
from bertft.training import random_state
from bertft.training.distributed import SINGLE_PROCESS, DistributedContext
from bertft.training.step import TrainStep
from bertft.training.trainer import TrainerState
from bertft.utils.atomic_io import atomic_write_json
from bertft.utils.messages import invalid_entry
from bertft.utils.safe_files import read_json_object

__all__ = [
    "CheckpointInfo",
    "capture_state",
    "checkpoint_writer",
    "is_checkpoint",
    "read_checkpoint_info",
    "read_trained_weights",
    "read_training_state",
    "restore_state",
]


def capture_state(
    stepper: TrainStep,
    progress: TrainerState,
    callback_states: dict[str, Any],
    ranks: DistributedContext = SINGLE_PROCESS,
) -> dict[str, Any]:
    """Nested dicts of tensors and JSON scalars; ``callback_states`` are states of listeners.

    All ranks call it at once.
    """
    generators = ranks.all_gather_objects([random_state.capture_rng_state()])
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
        random_state.restore_rng_state(generators[ranks.rank])
    callback_states = state["others"]
    if callback_states:
        first, second = callback_states["position"]
        if not (
            type(first) is type(second) is int and isinstance(callback_states["metrics"], dict)
        ):
            raise TypeError("the place in the metrics files is none")
    return progress, callback_states


_WEIGHTS, _INFO = "adapter.safetensors", "bertft.json"
_STATE, _STRUCTURE = "state.safetensors", "state.json"


@dataclass(frozen=True)
class CheckpointInfo:
    """What beside tensors is needed to use a checkpoint."""

    task: str
    labels: list[str] | None
    max_length: int
    step: int


def checkpoint_writer(
    task_model: TaskModel,
    files: Mapping[str, bytes],
    info: CheckpointInfo,
    state: Mapping[str, Any] | None,
) -> Callable[[Path], None]:
    """The function that writes a checkpoint into an empty folder; ``files`` are the tokenizer's."""

    def write(folder: Path) -> None:
        write_tensors(folder / _WEIGHTS, trained_tensors(task_model.model))
        task_model.model.config.save_pretrained(folder)
        tokenizer_files.write_tokenizer_files(folder, files)
        atomic_write_json(folder / _INFO, asdict(info))
        if state is not None:
            tensors, structure = flatten_state(state)
            write_tensors(folder / _STATE, tensors)
            atomic_write_json(folder / _STRUCTURE, structure)

    return write


def is_checkpoint(folder: Path) -> bool:
    """Whether ``folder`` was written as one: it has no base, and is nothing without its run."""
    return (folder / _WEIGHTS).is_file() and (folder / _INFO).is_file()


def read_checkpoint_info(folder: Path) -> CheckpointInfo:
    """DataError if they are missing or of another form."""
    content = read_json_object(folder / _INFO)
    try:
        info = CheckpointInfo(**content)
    except TypeError as error:
        raise DataError(f"is of another form ({error})", where=str(folder / _INFO)) from None
    labels = info.labels
    valid = {
        "task": isinstance(info.task, str),
        "labels": labels is None
        or (isinstance(labels, list) and all(isinstance(each, str) for each in labels)),
        "max_length": type(info.max_length) is int and info.max_length > 0,
        "step": type(info.step) is int and info.step >= 0,
    }
    for name, is_valid in valid.items():
        if not is_valid:
            what = invalid_entry(name, getattr(info, name))
            raise DataError(what, where=str(folder / _INFO))
    return info


def mismatched_entries(info: CheckpointInfo, manifest: Mapping[str, Any]) -> list[str]:
    """Names of what a checkpoint and its run's manifest must agree on, and do not."""
    names = ("labels", "task", "max_length")
    return [name for name in names if name in manifest and manifest[name] != getattr(info, name)]


def read_trained_weights(folder: Path) -> dict[str, Tensor]:
    """DataError if one of them is not finite: training never saves such."""
    weights = read_tensors(folder / _WEIGHTS)
    broken = first_non_finite(weights)
    if broken is not None:
        raise DataError(f"{broken} is not finite", where=str(folder / _WEIGHTS))
    return weights


def read_training_state(folder: Path) -> dict[str, Any]:
    """The state to go on with."""
    state = unflatten_state(read_tensors(folder / _STATE), read_json_object(folder / _STRUCTURE))
    assert isinstance(state, dict)
    return state
