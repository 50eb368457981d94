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
from bertft.pipeline.task_model import TaskModel
from bertft.runs.tensor_files import flatten_state, read_tensors, unflatten_state, write_tensors
from bertft.utils.atomic_io import atomic_write_json
from bertft.utils.messages import invalid_entry
from bertft.utils.safe_files import read_json_object

__all__ = [
    "CheckpointInfo",
    "checkpoint_writer",
    "is_checkpoint",
    "read_checkpoint_info",
    "read_trained_weights",
    "read_training_state",
]


_WEIGHTS, _INFO = "adapter.safetensors", "bertft.json"
_STATE, _STRUCTURE = "state.safetensors", "state.json"


@dataclass(frozen=True)
class CheckpointInfo:
    """The content of bertft.json, which is needed to use the weights of a checkpoint."""

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
        atomic_write_json(folder / _INFO, asdict(info))
        if state is not None:
            tensors, structure = flatten_state(state)
            write_tensors(folder / _STATE, tensors)
            atomic_write_json(folder / _STRUCTURE, structure)

    return write


def is_checkpoint(folder: Path) -> bool:
    """Whether ``folder`` is a checkpoint (it can be used only with the base of its run)."""
    return (folder / _WEIGHTS).is_file() and (folder / _INFO).is_file()


def read_checkpoint_info(folder: Path) -> CheckpointInfo:
    """Read bertft.json. DataError if it is missing or invalid."""
    content = read_json_object(folder / _INFO)
    try:
        info = CheckpointInfo(**content)
    except TypeError as error:
        raise DataError(f"has invalid content ({error})", where=str(folder / _INFO)) from None
    labels = info.labels
    valid = {
        "task": isinstance(info.task, str),
        "labels": labels is None
        or (isinstance(labels, list) and all(isinstance(label, str) for label in labels)),
        "max_length": type(info.max_length) is int and info.max_length > 0,
        "step": type(info.step) is int and info.step >= 0,
    }
    for name, is_valid in valid.items():
        if not is_valid:
            raise DataError(invalid_entry(name, getattr(info, name)), where=str(folder / _INFO))
    return info


def mismatched_entries(info: CheckpointInfo, manifest: Mapping[str, Any]) -> list[str]:
    """Names of the entries in which a checkpoint differs from the manifest of its run."""
    names = ("labels", "task", "max_length")
    return [name for name in names if name in manifest and manifest[name] != getattr(info, name)]


def read_trained_weights(folder: Path) -> dict[str, Tensor]:
    """The trained tensors. DataError if one is not finite: training never saves such a tensor."""
    weights = read_tensors(folder / _WEIGHTS)
    non_finite = first_non_finite(weights)
    if non_finite is not None:
        raise DataError(f"{non_finite} is not finite", where=str(folder / _WEIGHTS))
    return weights


def read_training_state(folder: Path) -> dict[str, Any]:
    """The training state (see ``bertft.training.checkpoint_state``)."""
    state = unflatten_state(read_tensors(folder / _STATE), read_json_object(folder / _STRUCTURE))
    assert isinstance(state, dict)
    return state
