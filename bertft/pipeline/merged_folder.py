"""Files that a merged folder has in addition to a plain transformers model.

    config.json            "decision_threshold": τ or {label: τ}, if one was tuned
    bertft.json            see ``bertft.pipeline.model_info``
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

from bertft.config.method_components.prefix import PrefixConfig
from bertft.errors import DataError
from bertft.pipeline.model_info import INFO_FILE
from bertft.runs.tensor_files import read_tensors, write_tensors
from bertft.tasks.shared.conformal import ConformalSets
from bertft.tasks.task import Threshold
from bertft.utils.atomic_io import atomic_write_json
from bertft.utils.safe_files import DAMAGED_FILE_HINT

__all__ = [
    "THRESHOLD_KEY",
    "load_prefix_weights",
    "store_threshold",
    "write_merged_info",
]

THRESHOLD_KEY = "decision_threshold"
_PREFIX_FILE = "prefix.safetensors"


def write_merged_info(
    folder: Path,
    max_length: int,
    prefix: PrefixConfig | None,
    model: Any,
    prediction_settings: Mapping[str, Any] | None = None,
    task: str | None = None,
    conformal: ConformalSets | None = None,
) -> None:
    """Write bertft.json and, if there is a prefix, its vectors from ``model``."""
    settings = asdict(prefix) if prefix is not None else None
    content: dict[str, Any] = {} if task is None else {"task": task}
    content |= {
        "max_length": max_length,
        "answering": dict(prediction_settings or {}),
        "prefix": settings,
    }
    if conformal is not None:
        content["conformal"] = asdict(conformal)
    atomic_write_json(folder / INFO_FILE, content)
    if prefix is not None:
        write_tensors(folder / _PREFIX_FILE, _prefix_tensors(model))


def store_threshold(config: Any, threshold: Threshold | None) -> None:
    """Store ``threshold`` in a transformers ``config``; None removes that of the base."""
    if threshold is not None:
        setattr(config, THRESHOLD_KEY, threshold)
    elif hasattr(config, THRESHOLD_KEY):
        delattr(config, THRESHOLD_KEY)


def load_prefix_weights(folder: Path, model: Any) -> None:
    """Copy the vectors in ``folder`` into the attached prefix of ``model``."""
    stored_tensors, prefix_tensors = read_tensors(folder / _PREFIX_FILE), _prefix_tensors(model)
    if {name: t.shape for name, t in stored_tensors.items()} != {
        name: t.shape for name, t in prefix_tensors.items()
    }:
        raise DataError(
            "does not match the prefix in bertft.json",
            where=str(folder / _PREFIX_FILE),
            hint=DAMAGED_FILE_HINT,
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
