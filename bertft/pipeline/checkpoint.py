"""Read and write checkpoint folders: the weights trained on top of a base, and the training state.

adapter.safetensors              trained parameters and buffers of the components
config.json                      transformers' config with the labels
tokenizer files                  the same bytes in every checkpoint of a run
bertft.json                      task, labels, max_length, step
state.safetensors, state.json    optimizer, loss scale, components, generators, progress
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
from bertft.pipeline.base_model import write_tokenizer_files
from bertft.pipeline.model_info import INFO_FILE, read_model_info
from bertft.pipeline.task_model import TaskModel
from bertft.runs.manifest import Manifest
from bertft.runs.tensor_files import flatten_state, read_tensors, unflatten_state, write_tensors
from bertft.utils.atomic_io import atomic_write_json
from bertft.utils.messages import add_location
from bertft.utils.safe_files import DAMAGED_FILE_HINT, read_json_object

__all__ = [
    "CheckpointInfo",
    "checkpoint_writer",
    "is_checkpoint",
    "read_checkpoint_info",
    "read_trained_weights",
    "read_training_state",
]


_WEIGHTS = "adapter.safetensors"
_STATE, _STRUCTURE = "state.safetensors", "state.json"


@dataclass(frozen=True)
class CheckpointInfo:
    """What is needed to use the weights of a checkpoint; the content of its bertft.json.

    Attributes:
        labels: names of the classes; None for a task without classes.
        max_length: maximum length of an input in tokens, special ones included.
        step: optimizer steps so far; 0 for a model that is not a checkpoint.
    """

    task: str
    labels: list[str] | None
    max_length: int
    step: int


def checkpoint_writer(
    task_model: TaskModel,
    tokenizer_files: Mapping[str, bytes],
    info: CheckpointInfo,
    state: Mapping[str, Any] | None,
) -> Callable[[Path], None]:
    """Return a function that writes a checkpoint into an empty folder.

    Args:
        state: the training state; None: only what predictions need is written.
    """

    def write(folder: Path) -> None:
        write_tensors(folder / _WEIGHTS, trained_tensors(task_model.model))
        task_model.model.config.save_pretrained(folder)
        write_tokenizer_files(folder, tokenizer_files)
        atomic_write_json(folder / INFO_FILE, asdict(info))
        if state is not None:
            tensors, structure = flatten_state(state)
            write_tensors(folder / _STATE, tensors)
            atomic_write_json(folder / _STRUCTURE, structure)

    return write


def is_checkpoint(folder: Path) -> bool:
    """Whether ``folder`` is a checkpoint (it can be used only with the base of its run)."""
    return (folder / _WEIGHTS).is_file() and (folder / INFO_FILE).is_file()


def read_checkpoint_info(folder: Path) -> CheckpointInfo:
    """Read bertft.json. DataError if it is missing or invalid."""
    info = read_model_info(folder, required=("task", "max_length", "step"))
    assert info.task is not None and info.max_length is not None and info.step is not None
    return CheckpointInfo(info.task, info.labels, info.max_length, info.step)


def mismatched_entries(info: CheckpointInfo, manifest: Manifest) -> dict[str, tuple[Any, Any]]:
    """Entries in which a checkpoint differs from the manifest: name → (checkpoint, manifest)."""
    entries = {
        "labels": (info.labels, manifest["labels"]),
        "task": (info.task, manifest["task"]),
        "max_length": (info.max_length, manifest["max_length"]),
    }
    return {name: values for name, values in entries.items() if values[0] != values[1]}


def read_trained_weights(folder: Path) -> dict[str, Tensor]:
    """The trained tensors. DataError if one is not finite: training never saves such a tensor."""
    weights = read_tensors(folder / _WEIGHTS)
    non_finite = first_non_finite(weights)
    if non_finite is not None:
        raise DataError(
            f"{non_finite} is not finite", where=str(folder / _WEIGHTS), hint=DAMAGED_FILE_HINT
        )
    return weights


def read_training_state(folder: Path) -> dict[str, Any]:
    """The training state (see ``bertft.training.checkpoint_state``)."""
    tensors, structure = read_tensors(folder / _STATE), read_json_object(folder / _STRUCTURE)
    with add_location(folder):
        state = unflatten_state(tensors, structure)
    assert isinstance(state, dict)
    return state
