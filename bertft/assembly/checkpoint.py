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

from bertft.assembly import tokenizer_files
from bertft.assembly.adapted import Adapted
from bertft.config.messages import invalid_entry
from bertft.errors import DataError
from bertft.methods import trained_tensors
from bertft.models.finite import first_non_finite
from bertft.runs.atomic import write_json
from bertft.runs.json_file import read_object
from bertft.runs.tensors import join_state, read_tensors, split_state, write_tensors

__all__ = ["Facts", "is_checkpoint", "read_facts", "read_state", "read_weights", "writer"]

_WEIGHTS, _FACTS = "adapter.safetensors", "bertft.json"
_STATE, _STRUCTURE = "state.safetensors", "state.json"


@dataclass(frozen=True)
class Facts:
    """What beside tensors is needed to use a checkpoint."""

    task: str
    labels: list[str] | None
    max_length: int
    step: int


def writer(
    adapted: Adapted, files: Mapping[str, bytes], facts: Facts, state: Mapping[str, Any] | None
) -> Callable[[Path], None]:
    """The function that writes a checkpoint into an empty folder; ``files`` are the tokenizer's."""

    def write(folder: Path) -> None:
        write_tensors(folder / _WEIGHTS, trained_tensors(adapted.model))
        adapted.model.config.save_pretrained(folder)
        tokenizer_files.write(folder, files)
        write_json(folder / _FACTS, asdict(facts))
        if state is not None:
            tensors, structure = split_state(state)
            write_tensors(folder / _STATE, tensors)
            write_json(folder / _STRUCTURE, structure)

    return write


def is_checkpoint(folder: Path) -> bool:
    """Whether ``folder`` was written as one: it has no base, and is nothing without its run."""
    return (folder / _WEIGHTS).is_file() and (folder / _FACTS).is_file()


def read_facts(folder: Path) -> Facts:
    """DataError if they are missing or of another form."""
    content = read_object(folder / _FACTS)
    try:
        facts = Facts(**content)
    except TypeError as error:
        raise DataError(f"is of another form ({error})", where=str(folder / _FACTS)) from None
    labels = facts.labels
    right = {
        "task": isinstance(facts.task, str),
        "labels": labels is None
        or (isinstance(labels, list) and all(isinstance(each, str) for each in labels)),
        "max_length": type(facts.max_length) is int and facts.max_length > 0,
        "step": type(facts.step) is int and facts.step >= 0,
    }
    for name, is_right in right.items():
        if not is_right:
            what = invalid_entry(name, getattr(facts, name))
            raise DataError(what, where=str(folder / _FACTS))
    return facts


def unlike(facts: Facts, manifest: Mapping[str, Any]) -> list[str]:
    """Names of what a checkpoint and its run's manifest must agree on, and do not."""
    names = ("labels", "task", "max_length")
    return [name for name in names if name in manifest and manifest[name] != getattr(facts, name)]


def read_weights(folder: Path) -> dict[str, Tensor]:
    """DataError if one of them is not finite: training never saves such."""
    weights = read_tensors(folder / _WEIGHTS)
    broken = first_non_finite(weights)
    if broken is not None:
        raise DataError(f"{broken} is not finite", where=str(folder / _WEIGHTS))
    return weights


def read_state(folder: Path) -> dict[str, Any]:
    """The state to go on with."""
    state = join_state(read_tensors(folder / _STATE), read_object(folder / _STRUCTURE))
    assert isinstance(state, dict)
    return state
