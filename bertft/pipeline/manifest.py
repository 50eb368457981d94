"""Provenance of a run for its manifest.json: everything that its results depend on."""

from __future__ import annotations

import os
import platform
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import torch

import bertft
from bertft.config.command_configs import TrainConfig
from bertft.config.data import DataConfig
from bertft.config.data_files import is_several_files, split_names
from bertft.config.registry import plugin_versions
from bertft.data.statistics import DataReport
from bertft.pipeline.base_model import describe_base
from bertft.pipeline.task_model import TaskModel
from bertft.runs.manifest import DataEntry, Manifest

__all__ = [
    "build_manifest",
    "describe_hardware",
    "hardware_changes",
    "package_versions",
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
) -> Manifest:
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
        "data": cast(DataEntry, data.to_dict()),
        "parameters": task_model.count_parameters(),
    }


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that results depend on."""
    return {name: metadata.version(name) for name in _PACKAGES}


def recorded_data(
    data: DataConfig, manifest: Manifest, cli_settings: Collection[str] = ()
) -> DataConfig:
    """The settings ``data`` of a run, with the paths of the files that the run read.

    Relative paths are resolved from the folder in which the run was started, except in
    ``cli_settings``, the settings of the command line. Splits of the Hub have no files and keep
    their names.
    """
    replacements: dict[str, Any] = {}
    for name, split in manifest["data"]["splits"].items():
        setting, files = getattr(data, name, None), split["files"]
        if setting is None or not files or f"data.{name}" in cli_settings:
            continue
        if isinstance(setting, str) and len(files) == 1 and not is_several_files(setting):
            if not _is_absolute(setting) and Path(files[0]).is_file():
                replacements[name] = files[0]
        elif (start_dir := manifest.get("directory")) is not None:
            replacements[name] = _absolute_names(setting, start_dir)
    start_dir, dropped = manifest.get("directory"), data.drop_rows
    if dropped is not None and start_dir is not None and "data.drop_rows" not in cli_settings:
        replacements["drop_rows"] = _absolute_names(dropped, start_dir)
    if data.hub is not None and "data.hub" not in cli_settings:  # a data set in a local folder
        replacements["hub"] = recorded_path(data.hub, manifest)
    return replace(data, **replacements)


def _absolute_names(setting: Any, start_dir: str) -> str | list[str]:
    """The files of a setting, one or several, with paths relative to ``start_dir`` resolved."""
    names = split_names(setting)
    absolute = [name if _is_absolute(name) else str(Path(start_dir) / name) for name in names]
    return absolute if len(absolute) > 1 else absolute[0]


def recorded_path(path: str, manifest: Manifest) -> str:
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


def hardware_changes(manifest: Manifest, device: torch.device, processes: int) -> list[str]:
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
