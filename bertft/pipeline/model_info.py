"""``bertft.json``: what a folder records that the formats of transformers and peft do not.

    checkpoint       task, labels, max_length, step
    merged folder    task, max_length, answering, prefix
    adapter          task, labels, max_length, answering, prefix (null), threshold if one was tuned
    both             conformal: prediction sets, if they were calibrated

Other libraries ignore the file. A folder that bertft did not write does not have it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bertft.config.method_components.prefix import PrefixConfig
from bertft.config.registry import TASKS
from bertft.config.values import check_answer_settings, check_recorded_settings
from bertft.errors import DataError
from bertft.pipeline.conformal import parse_sets
from bertft.tasks.shared.conformal import ConformalSets
from bertft.tasks.task import Threshold
from bertft.utils.messages import invalid_entry, shorten
from bertft.utils.safe_files import DAMAGED_FILE_HINT, read_json_object

__all__ = ["INFO_FILE", "ModelInfo", "is_threshold", "parse_threshold", "read_model_info"]

INFO_FILE = "bertft.json"


@dataclass(frozen=True)
class ModelInfo:
    """The content of bertft.json; None for an entry that the folder does not record.

    Attributes:
        task: name of a registered task.
        labels: names of the classes, in the order of the outputs.
        max_length: maximum length of an input in tokens, special ones included.
        step: optimizer steps that a checkpoint was trained for.
        prediction_settings: settings of ``data`` that predictions depend on.
        prefix: settings of the prefix that is stored next to a merged model.
        threshold: the tuned decision threshold of an adapter.
        conformal: how prediction sets are computed.
    """

    task: str | None = None
    labels: list[str] | None = None
    max_length: int | None = None
    step: int | None = None
    prediction_settings: dict[str, Any] = field(default_factory=dict)
    prefix: PrefixConfig | None = None
    threshold: Threshold | None = None
    conformal: ConformalSets | None = None


def read_model_info(folder: Path, required: Collection[str] = ()) -> ModelInfo:
    """Read bertft.json of ``folder``. If the file does not exist, nothing is recorded.

    Args:
        required: names of entries that must not be null; with any, the file must exist.

    Raises:
        DataError: an entry is invalid or missing.
    """
    file = folder / INFO_FILE
    if not required and not file.is_file():
        return ModelInfo()
    content = read_json_object(file)
    for name in ("max_length", *required):  # every version of bertft records max_length
        if name not in content:
            raise DataError(f"has no {name!r}", where=str(file), hint=DAMAGED_FILE_HINT)
    if unknown := content.keys() - _ENTRIES:  # of a later version: it may change predictions
        raise DataError(
            f"has the entry {shorten(repr(min(unknown)))}, which this version of bertft does not"
            " know",
            where=str(file),
            hint="Update bertft",
        )
    for name, is_valid in _VALIDATORS.items():
        value = content.get(name)
        if not is_valid(value) and (value is not None or name in required):
            raise DataError(invalid_entry(name, value), where=str(file), hint=DAMAGED_FILE_HINT)
    task = content.get("task")
    if task is not None and task not in TASKS:
        TASKS.raise_missing(shorten(task), "task", str(file))
    try:
        prediction_settings = check_answer_settings(content.get("answering"))
        prefix = content.get("prefix")
        if prefix is not None:
            prefix = PrefixConfig(**check_recorded_settings("method.prefix", prefix))
        conformal = parse_sets(content.get("conformal"))
    except ValueError as error:
        raise DataError(
            f"has invalid content ({error})", where=str(file), hint=DAMAGED_FILE_HINT
        ) from None
    return ModelInfo(
        task,
        content.get("labels"),
        content["max_length"],
        content.get("step"),
        prediction_settings,
        prefix,
        parse_threshold(content.get("threshold"), str(file)),
        conformal,
    )


def _is_label_list(value: Any) -> bool:
    return (
        isinstance(value, list)
        and all(isinstance(label, str) and label.strip() for label in value)
        and len(set(value)) == len(value)
    )


_ENTRIES = {
    "task",
    "labels",
    "max_length",
    "step",
    "answering",
    "prefix",
    "threshold",
    "conformal",
}

# Entries whose validity does not depend on the configuration.
_VALIDATORS: dict[str, Callable[[Any], bool]] = {
    "task": lambda value: isinstance(value, str),
    "labels": _is_label_list,
    "max_length": lambda value: type(value) is int and 0 < value < 1 << 31,
    "step": lambda value: type(value) is int and value >= 0,
}


def parse_threshold(value: Any, where: str) -> Threshold | None:
    """Check the threshold ``value`` from the file ``where``. DataError if it is invalid."""
    if value is not None and not is_threshold(value):
        raise DataError(
            f"invalid threshold {shorten(repr(value))}",
            where=where,
            hint="Set it to a number between 0 and 1",
        )
    return value


def is_threshold(value: Any) -> bool:
    """Whether ``value`` is a probability between 0 and 1, or a dict of them by label."""
    probabilities = list(value.values()) if isinstance(value, dict) and value else [value]
    return all(type(number) is float and 0 < number < 1 for number in probabilities)
