"""Provenance of a run for its manifest.json: everything that its results depend on."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import bertft
from bertft.config.choices import FORMER_LAYOUTS, LAYOUTS, PRECISIONS
from bertft.config.command_configs import TrainConfig
from bertft.config.data import DataConfig
from bertft.config.registry import plugin_versions
from bertft.data.statistics import DataReport
from bertft.errors import DataError
from bertft.pipeline.base_model import describe_base
from bertft.pipeline.task_model import TaskModel
from bertft.runs.run_folder import RunFolder
from bertft.utils.messages import invalid_entry

__all__ = [
    "build_manifest",
    "describe_hardware",
    "hardware_changes",
    "package_versions",
    "read_manifest",
    "recorded_data",
    "recorded_path",
]

_PACKAGES = ("torch", "transformers", "tokenizers", "datasets", "safetensors", "numpy", "pyarrow")


def build_manifest(
    config: TrainConfig,
    task_model: TaskModel,
    data: DataReport,
    max_length: int,
    total_steps: int,
    processes: int = 1,
) -> dict[str, Any]:
    """Return the manifest of a new run, with JSON values only."""
    task, precision = task_model.task, task_model.precision
    return {
        "format": 1,
        "bertft": bertft.__version__,
        "begun": datetime.now(UTC).isoformat(timespec="seconds"),
        "directory": os.getcwd(),  # relative paths of the configuration start here
        "python": platform.python_version(),
        "packages": package_versions() | plugin_versions(),
        "hardware": {**describe_hardware(precision.device), "processes": processes},
        "base": describe_base(task_model.source),
        "base_head": task_model.head_note or None,
        "model_type": task_model.model.config.model_type,
        "task": task.name,
        "labels": task.class_names,
        "metric": task.metric,
        "max_length": max_length,
        "precision": precision.name,
        "layout": task_model.runner.layout,
        "seeds": {"run": config.seed, "data": config.data.seed},
        "total_steps": total_steps,
        "data": data.to_dict(),
        "parameters": task_model.count_parameters(),
    }


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that results depend on."""
    return {name: metadata.version(name) for name in _PACKAGES}


def read_manifest(run: RunFolder) -> dict[str, Any]:
    """The manifest of ``run``. DataError if an entry that is used later is invalid."""
    content = run.read_manifest()
    if isinstance(content.get("layout"), str):
        content["layout"] = FORMER_LAYOUTS.get(content["layout"], content["layout"])
    for name, is_valid in _VALIDATORS.items():
        if not is_valid(content.get(name)):
            raise DataError(invalid_entry(name, content.get(name)), where=str(run.manifest_path))
    return content


def _is_data_entry(value: Any) -> bool:
    splits = value.get("splits") if isinstance(value, dict) else None
    return isinstance(splits, dict) and all(
        isinstance(split, dict)
        and isinstance(split.get("fingerprint"), str)
        and isinstance(split.get("files"), list)
        and all(isinstance(file, str) for file in split["files"])
        and _is_row_accounting(split)
        for split in splits.values()
    )


def _is_row_accounting(split: dict[str, Any]) -> bool:
    """Whether the row counts of a split are valid; earlier versions recorded fewer of them."""
    groups = ("unused", "dropped", "other_lines")
    return (
        type(split.get("rows")) is int
        and isinstance(split.get("source"), str)
        and all(type(split.get(name, 0)) is int for name in ("read", "blank_lines"))
        and all(_are_counts(split.get(name, {})) for name in groups)
        and _are_counts(split.get("skipped"))
    )


def _are_counts(value: Any) -> bool:
    return isinstance(value, dict) and all(type(count) is int for count in value.values())


def _has_values(value: Any, kind: type) -> bool:
    return isinstance(value, dict) and all(type(entry) is kind for entry in value.values())


def _is_time(value: Any) -> bool:
    try:
        datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return False
    return True


def _is_teacher(value: Any) -> bool:
    """Whether ``value`` is an entry as ``distillation.teacher_entry`` writes it."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("path"), str)
        and isinstance(value.get("digest"), str)
        and (value.get("forwards") is None or _are_counts(value["forwards"]))
    )


_VALIDATORS: dict[str, Callable[[Any], bool]] = {
    "base": lambda value: isinstance(value, dict),
    "task": lambda value: isinstance(value, str),
    "labels": lambda value: (
        value is None or (isinstance(value, list) and all(isinstance(name, str) for name in value))
    ),
    "max_length": lambda value: type(value) is int and value > 0,
    "precision": lambda value: value in PRECISIONS,
    "layout": lambda value: value in LAYOUTS,
    "hardware": lambda value: isinstance(value, dict),
    "data": _is_data_entry,
    "begun": lambda value: _is_time(value),
    "bertft": lambda value: isinstance(value, str),
    "packages": lambda value: _has_values(value, str),
    "seeds": lambda value: _has_values(value, int),
    "parameters": lambda value: isinstance(value, dict) and type(value.get("base")) is int,
    # Earlier versions did not record these.
    "check_rows": lambda value: value is None or isinstance(value, str),
    "teacher": lambda value: value is None or _is_teacher(value),
    "directory": lambda value: value is None or isinstance(value, str),
    "tokenizer": lambda value: value is None or isinstance(value, str),
}


def recorded_data(
    data: DataConfig, manifest: Mapping[str, Any], cli_settings: Collection[str] = ()
) -> DataConfig:
    """The settings ``data`` of a run, with the paths of the files that the run read.

    Relative paths are resolved from the folder in which the run was started, except in
    ``cli_settings``, the settings of the command line. Splits of the Hub have no files and keep
    their names.
    """
    replacements: dict[str, Any] = {}
    for name, split in manifest["data"]["splits"].items():
        setting = getattr(data, name, None)
        if setting is not None and split["files"] and f"data.{name}" not in cli_settings:
            file = Path(split["files"][0])
            if not _is_absolute(setting) and file.is_file():
                replacements[name] = str(file)
    if data.hub is not None and "data.hub" not in cli_settings:  # a data set in a local folder
        replacements["hub"] = recorded_path(data.hub, manifest)
    return replace(data, **replacements)


def recorded_path(path: str, manifest: Mapping[str, Any]) -> str:
    """Resolve ``path`` from the folder in which the run was started.

    An absolute path or a name that is not a folder there, such as a Hub id, is returned unchanged.
    """
    start_dir = manifest.get("directory")
    if _is_absolute(path) or start_dir is None or not (Path(start_dir) / path).is_dir():
        return path
    return str(Path(start_dir) / path)


def _is_absolute(path: str) -> bool:
    """Whether ``path`` is independent of the current folder, as ``~`` and ``~name`` are."""
    return path.startswith("~") or Path(path).is_absolute()


def hardware_changes(
    manifest: Mapping[str, Any], device: torch.device, processes: int
) -> list[str]:
    """Differences from the hardware in ``manifest`` that can change the last bits of results."""
    current = {**describe_hardware(device), "processes": processes}
    recorded = {"processes": 1, **manifest["hardware"]}
    names = {
        "device": "device",
        "gpu": "GPU",
        "instruction_set": "instruction set",
        "threads": "number of CPU threads",
        "processes": "number of processes",
    }
    return [
        f"{description} was {recorded.get(name)}, is {current.get(name)}"
        for name, description in names.items()
        if recorded.get(name) != current.get(name)
    ]


def describe_hardware(device: torch.device) -> dict[str, Any]:
    """The properties of the machine that rounding and speed depend on."""
    description: dict[str, Any] = {
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu": _cpu_name(),
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "device": str(device),
    }
    if device.type == "cuda":
        description["gpu"] = torch.cuda.get_device_name(device)
        description["cuda"] = torch.version.cuda
    return description


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    except OSError:
        names = []
    return names[0] if names else platform.processor()
