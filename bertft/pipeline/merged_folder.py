"""Files that a merged folder has in addition to a plain transformers model.

    config.json            "decision_threshold": τ or {label: τ}, if one was tuned
    bertft.json            {"task": name, "max_length": n, "answering": {…},
                            "prefix": settings or null}
    prefix.safetensors     trained vectors, if the merge used prefix=separate

transformers ignores them. ``bertft eval`` and ``bertft predict`` use them to give the same
predictions as the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from bertft.config.method import MethodConfig
from bertft.config.method_components.prefix import PrefixConfig
from bertft.config.values import check_answer_settings, check_recorded_settings
from bertft.errors import DataError
from bertft.runs.tensor_files import read_tensors, write_tensors
from bertft.tasks.task import Threshold
from bertft.utils.atomic_io import atomic_write_json
from bertft.utils.messages import shorten
from bertft.utils.safe_files import read_json_object

__all__ = [
    "THRESHOLD_KEY",
    "MergedFolderInfo",
    "load_prefix_weights",
    "read_merged_info",
    "store_threshold",
    "write_merged_info",
]

THRESHOLD_KEY = "decision_threshold"
_INFO_FILE, _PREFIX_FILE = "bertft.json", "prefix.safetensors"


class MergedFolderInfo:
    """The content of bertft.json.

    Args:
        max_length: None if it is not recorded.
        prefix: settings of the prefix; None without one.
        answer_settings: settings of ``data`` that predictions depend on.
        task: name of the task; None if an earlier version wrote the folder.
    """

    def __init__(
        self,
        max_length: int | None = None,
        prefix: PrefixConfig | None = None,
        answer_settings: Mapping[str, Any] | None = None,
        task: str | None = None,
    ) -> None:
        self.max_length, self.prefix, self.task = max_length, prefix, task
        self.answer_settings = dict(answer_settings or {})

    @property
    def method(self) -> MethodConfig:
        """A method with the prefix as its only component."""
        return MethodConfig(name="merged", prefix=self.prefix)


def write_merged_info(
    folder: Path,
    max_length: int,
    prefix: PrefixConfig | None,
    model: Any,
    answer_settings: Mapping[str, Any] | None = None,
    task: str | None = None,
) -> None:
    """Write bertft.json and, if there is a prefix, its vectors from ``model``."""
    settings = asdict(prefix) if prefix is not None else None
    content: dict[str, Any] = {} if task is None else {"task": task}
    content |= {
        "max_length": max_length,
        "answering": dict(answer_settings or {}),
        "prefix": settings,
    }
    atomic_write_json(folder / _INFO_FILE, content)
    if prefix is not None:
        write_tensors(folder / _PREFIX_FILE, _prefix_tensors(model))


def store_threshold(config: Any, threshold: Threshold | None) -> None:
    """Store ``threshold`` in a transformers ``config``; None removes that of the base."""
    if threshold is not None:
        setattr(config, THRESHOLD_KEY, threshold)
    elif hasattr(config, THRESHOLD_KEY):
        delattr(config, THRESHOLD_KEY)


def read_merged_info(folder: Path) -> MergedFolderInfo:
    """Read bertft.json; empty info if there is none. DataError if it is invalid."""
    if not (folder / _INFO_FILE).is_file():
        return MergedFolderInfo()
    content = read_json_object(folder / _INFO_FILE)
    try:
        settings, length = content.get("prefix"), content["max_length"]
        if length is not None and not (type(length) is int and 0 < length < 1 << 31):
            raise ValueError(f"max_length is {shorten(repr(length))}")
        prefix = None
        if settings is not None:
            prefix = PrefixConfig(**check_recorded_settings("method.prefix", settings))
        task = content.get("task")
        if task is not None and not isinstance(task, str):
            raise ValueError(f"task is {shorten(repr(task))}")
        return MergedFolderInfo(
            length, prefix, check_answer_settings(content.get("answering")), task
        )
    except KeyError as error:
        raise DataError(f"has no {error.args[0]}", where=str(folder / _INFO_FILE)) from None
    except ValueError as error:
        raise DataError(f"has invalid content ({error})", where=str(folder / _INFO_FILE)) from None


def load_prefix_weights(folder: Path, model: Any) -> None:
    """Copy the vectors in ``folder`` into the attached prefix of ``model``."""
    stored_tensors, prefix_tensors = read_tensors(folder / _PREFIX_FILE), _prefix_tensors(model)
    if {name: t.shape for name, t in stored_tensors.items()} != {
        name: t.shape for name, t in prefix_tensors.items()
    }:
        raise DataError(
            "does not match the prefix in bertft.json", where=str(folder / _PREFIX_FILE)
        )
    with torch.no_grad():
        for name, tensor in prefix_tensors.items():
            tensor.copy_(stored_tensors[name])


def _prefix_tensors(model: Any) -> dict[str, torch.Tensor]:
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if name.startswith(("prefix.", "prompt."))
    }
